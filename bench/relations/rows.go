package main

import (
	"time"

	"github.com/uptrace/bun"
)

// The rows of the shop as structs. Decimals are texts, because a float would round them.

type customer struct {
	bun.BaseModel `bun:"table:customers" gorm:"-"`

	ID         int64      `json:"id" bun:"id,pk"`
	ExternalID int64      `json:"external_id"`
	Name       string     `json:"name"`
	Email      *string    `json:"email"`
	Company    *string    `json:"company"`
	Postcode   string     `json:"postcode"`
	Country    string     `json:"country"`
	EmployeeID *int64     `json:"employee_id"`
	Balance    string     `json:"balance"`
	Birthday   *time.Time `json:"-"`
	CreatedAt  time.Time  `json:"-"`
	Note       *string    `json:"note"`

	Orders []*order `json:"-" bun:"rel:has-many,join:id=customer_id"`
}

type product struct {
	bun.BaseModel `bun:"table:products" gorm:"-"`

	ID           int64    `json:"id" bun:"id,pk"`
	Sku          string   `json:"sku"`
	Name         string   `json:"name"`
	Description  *string  `json:"description"`
	Price        string   `json:"price"`
	Weight       *float64 `json:"weight"`
	CategoryID   int64    `json:"category_id"`
	SupplierID   int64    `json:"supplier_id"`
	Discontinued bool     `json:"discontinued"`
}

type line struct {
	bun.BaseModel `bun:"table:order_lines" gorm:"-"`

	OrderID   int64   `json:"order_id" bun:"order_id,pk" gorm:"primaryKey"`
	Line      int64   `json:"line" bun:"line,pk" gorm:"primaryKey"`
	ProductID int64   `json:"product_id"`
	Quantity  int64   `json:"quantity"`
	UnitPrice string  `json:"unit_price"`
	Discount  *string `json:"discount"`
	Gift      bool    `json:"gift"`

	Product *product `json:"product" bun:"rel:belongs-to,join:product_id=id"`
}

type order struct {
	bun.BaseModel `bun:"table:orders" gorm:"-"`

	ID         int64      `json:"id" bun:"id,pk"`
	CustomerID int64      `json:"customer_id"`
	EmployeeID *int64     `json:"employee_id"`
	Status     string     `json:"status"`
	OrderedAt  time.Time  `json:"-"`
	ShippedOn  *time.Time `json:"-"`
	Freight    string     `json:"freight"`
	Rush       bool       `json:"rush"`
	Note       *string    `json:"note"`

	Customer *customer `json:"customer" bun:"rel:belongs-to,join:customer_id=id"`
	Lines    []*line   `json:"lines" bun:"rel:has-many,join:id=order_id" gorm:"foreignKey:OrderID"`
}

func (customer) TableName() string { return "customers" }
func (product) TableName() string  { return "products" }
func (line) TableName() string     { return "order_lines" }
func (order) TableName() string    { return "orders" }

func (c *customer) total() int64 {
	sum := c.ID + c.ExternalID + length(&c.Name) + length(c.Email) + length(c.Company) + length(&c.Postcode) + length(&c.Country) +
		number(c.EmployeeID) + unscaled(&c.Balance, 4) + length(c.Note)
	for _, o := range c.Orders {
		sum += o.total()
	}
	return sum
}

func (p *product) total() int64 {
	return p.ID + length(&p.Sku) + length(&p.Name) + length(p.Description) + unscaled(&p.Price, 2) + p.CategoryID + p.SupplierID
}

func (l *line) total() int64 {
	sum := l.OrderID + l.Line + l.ProductID + l.Quantity + unscaled(&l.UnitPrice, 2) + unscaled(l.Discount, 3)
	if l.Product != nil {
		sum += l.Product.total()
	}
	return sum
}

func (o *order) total() int64 {
	sum := o.ID + o.CustomerID + number(o.EmployeeID) + length(&o.Status) + unscaled(&o.Freight, 2) + length(o.Note)
	if o.Customer != nil {
		sum += o.Customer.total()
	}
	for _, l := range o.Lines {
		sum += l.total()
	}
	return sum
}

func number(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func length(s *string) int64 {
	if s == nil {
		return 0
	}
	return int64(len(*s))
}

// unscaled returns a decimal as an integer number of units of its scale.
func unscaled(s *string, scale int) int64 {
	if s == nil {
		return 0
	}
	var n int64
	negative, after := false, -1
	for i := range len(*s) {
		switch c := (*s)[i]; c {
		case '-':
			negative = true
		case '.':
			after = 0
		default:
			n = 10*n + int64(c-'0')
			if after >= 0 {
				after++
			}
		}
	}
	for after = max(after, 0); after < scale; after++ {
		n *= 10
	}
	if negative {
		return -n
	}
	return n
}
