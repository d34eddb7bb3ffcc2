module github.com/penstock-data/penstock/bench

go 1.26

replace github.com/penstock-data/penstock => ../
