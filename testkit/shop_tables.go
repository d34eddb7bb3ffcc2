package testkit

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
)

const (
	tagCount     = 24
	categoryTops = 5
	firstDay     = 18262 // 2020-01-01
	days         = 1826  // five years of business
	dayMicros    = 86_400_000_000
)

func (s Shop) employees() int { return 5 + s.Orders/2000 }
func (s Shop) suppliers() int { return 5 + s.Orders/1000 }
func (s Shop) products() int  { return 10 + s.Orders/20 }
func (s Shop) customers() int { return 5 + s.Orders/10 }

// shopTables lists the tables. A table comes after those it refers to. The index of a
// table is part of the seed of its rows.
var shopTables = []shopTable{
	{
		name: "employees", key: []string{"id"},
		columns: []shopColumn{
			{name: "id", kind: kindInt}, {name: "name", kind: kindText}, {name: "email", kind: kindText, format: "email"},
			{name: "manager_id", kind: kindInt, nullable: true}, {name: "hired", kind: kindDate},
		},
		foreign: map[string]string{"manager_id": "employees"},
		rows:    Shop.employees,
		emit: func(_ Shop, d *dice, i int, c cells) {
			first, last := d.below(len(firstNames)), d.below(len(lastNames))
			c.int(int64(i + 1))
			c.text(firstNames[first] + " " + lastNames[last])
			c.text(mail(first, i, "shop.example"))
			if i == 0 {
				c.null()
			} else {
				c.int(int64(1 + d.early(i)))
			}
			c.date(int64(firstDay - 2000 + d.below(3000)))
			c.end()
		},
	},
	{
		name: "suppliers", key: []string{"id"},
		columns: []shopColumn{
			{name: "id", kind: kindInt}, {name: "name", kind: kindText}, {name: "country", kind: kindText, nullable: true},
			{name: "postcode", kind: kindText}, {name: "active", kind: kindBool},
		},
		rows: Shop.suppliers,
		emit: func(_ Shop, d *dice, i int, c cells) {
			c.int(int64(i + 1))
			c.text(d.pick(lastNames) + d.pick(companies))
			orNull(d, c, 10, d.pick(countries))
			c.text(postcode(d))
			c.bool(d.chance(90))
			c.end()
		},
	},
	{
		name: "categories", key: []string{"id"},
		columns: []shopColumn{
			{name: "id", kind: kindInt}, {name: "name", kind: kindText}, {name: "parent_id", kind: kindInt, nullable: true},
		},
		foreign: map[string]string{"parent_id": "categories"},
		rows:    func(Shop) int { return len(categories) },
		emit: func(_ Shop, _ *dice, i int, c cells) {
			c.int(int64(i + 1))
			c.text(categories[i])
			if i < categoryTops {
				c.null()
			} else {
				c.int(int64(1 + i%categoryTops))
			}
			c.end()
		},
	},
	{
		name: "tags", key: []string{"id"},
		columns: []shopColumn{{name: "id", kind: kindInt}, {name: "name", kind: kindText, unique: true}},
		rows:    func(Shop) int { return tagCount },
		emit: func(_ Shop, _ *dice, i int, c cells) {
			c.int(int64(i + 1))
			c.text(colours[i%len(colours)] + "-" + sizes[i/len(colours)])
			c.end()
		},
	},
	{
		name: "products", key: []string{"id"},
		columns: []shopColumn{
			{name: "id", kind: kindInt}, {name: "sku", kind: kindText, format: "uuid"}, {name: "name", kind: kindText},
			{name: "description", kind: kindText, nullable: true}, {name: "price", kind: decimalKind(10, 2)},
			{name: "weight", kind: kindFloat, nullable: true}, {name: "category_id", kind: kindInt},
			{name: "supplier_id", kind: kindInt}, {name: "discontinued", kind: kindBool},
		},
		foreign: map[string]string{"category_id": "categories", "supplier_id": "suppliers"},
		rows:    Shop.products,
		emit: func(s Shop, d *dice, i int, c cells) {
			c.int(int64(i + 1))
			c.text(uuid(d))
			c.text(d.pick(colours) + " " + d.pick(things))
			orNull(d, c, 20, d.pick(notes))
			c.decimal(price(d), 2)
			if d.chance(10) {
				c.null()
			} else {
				c.float(float64(1+d.below(4000)) / 64)
			}
			c.int(int64(1 + d.below(len(categories))))
			c.int(int64(1 + d.early(s.suppliers())))
			c.bool(d.chance(5))
			c.end()
		},
	},
	{
		name: "product_tags", key: []string{"product_id", "tag_id"},
		columns: []shopColumn{{name: "product_id", kind: kindInt}, {name: "tag_id", kind: kindInt}},
		foreign: map[string]string{"product_id": "products", "tag_id": "tags"},
		rows:    Shop.products,
		emit: func(_ Shop, d *dice, i int, c cells) {
			// Steps of 7 stay distinct modulo 24.
			var tags [3]int
			n, first := d.below(4), d.below(tagCount)
			for j := range n {
				tags[j] = 1 + (first+7*j)%tagCount
			}
			slices.Sort(tags[:n])
			for _, tag := range tags[:n] {
				c.int(int64(i + 1))
				c.int(int64(tag))
				c.end()
			}
		},
	},
	{
		name: "customers", key: []string{"id"},
		columns: []shopColumn{
			{name: "id", kind: kindInt}, {name: "external_id", kind: kindInt, unique: true}, {name: "name", kind: kindText},
			{name: "email", kind: kindText, nullable: true, format: "email"}, {name: "company", kind: kindText, nullable: true},
			{name: "postcode", kind: kindText}, {name: "country", kind: kindText}, {name: "employee_id", kind: kindInt, nullable: true},
			{name: "balance", kind: decimalKind(14, 4)}, {name: "birthday", kind: kindDate, nullable: true},
			{name: "created_at", kind: kindInstant}, {name: "note", kind: kindText, nullable: true},
		},
		foreign: map[string]string{"employee_id": "employees"},
		rows:    Shop.customers,
		emit: func(s Shop, d *dice, i int, c cells) {
			first := d.below(len(firstNames))
			c.int(int64(i + 1))
			c.int(1<<53 + 1 + 1_000_002*int64(i)) // odd, so that a float cannot hold it
			c.text(firstNames[first] + " " + d.pick(lastNames))
			orNull(d, c, 15, mail(first, i, "mail.example"))
			orNull(d, c, 60, d.pick(lastNames)+d.pick(companies))
			c.text(postcode(d))
			c.text(d.pick(countries))
			if d.chance(10) {
				c.null()
			} else {
				c.int(int64(1 + d.early(s.employees())))
			}
			c.decimal(int64(d.below(200_000_000)-50_000_000), 4)
			if d.chance(30) {
				c.null()
			} else {
				c.date(int64(d.below(13_000) - 10_000))
			}
			c.instant(moment(d))
			orNull(d, c, 40, d.pick(notes))
			c.end()
		},
	},
	{
		name: "orders", key: []string{"id"},
		columns: []shopColumn{
			{name: "id", kind: kindInt}, {name: "customer_id", kind: kindInt}, {name: "employee_id", kind: kindInt, nullable: true},
			{name: "status", kind: kindText}, {name: "ordered_at", kind: kindInstant}, {name: "shipped_on", kind: kindDate, nullable: true},
			{name: "freight", kind: decimalKind(8, 2)}, {name: "rush", kind: kindBool}, {name: "note", kind: kindText, nullable: true},
		},
		foreign: map[string]string{"customer_id": "customers", "employee_id": "employees"},
		rows:    func(s Shop) int { return s.Orders },
		emit: func(s Shop, d *dice, i int, c cells) {
			c.int(int64(i + 1))
			c.int(int64(1 + d.early(s.customers())))
			if d.chance(20) {
				c.null()
			} else {
				c.int(int64(1 + d.below(s.employees())))
			}
			c.text(d.pick(statuses))
			at := moment(d)
			c.instant(at)
			if d.chance(15) {
				c.null()
			} else {
				c.date(at/dayMicros + int64(d.below(10)))
			}
			c.decimal(int64(d.below(20_000)), 2)
			c.bool(d.chance(8))
			orNull(d, c, 80, d.pick(notes))
			c.end()
		},
	},
	{
		name: "order_lines", key: []string{"order_id", "line"},
		columns: []shopColumn{
			{name: "order_id", kind: kindInt}, {name: "line", kind: kindInt}, {name: "product_id", kind: kindInt},
			{name: "quantity", kind: kindInt}, {name: "unit_price", kind: decimalKind(10, 2)},
			{name: "discount", kind: decimalKind(4, 3), nullable: true}, {name: "gift", kind: kindBool},
		},
		foreign: map[string]string{"order_id": "orders", "product_id": "products"},
		rows:    func(s Shop) int { return s.Orders },
		emit: func(s Shop, d *dice, i int, c cells) {
			for line := range 1 + d.below(7) {
				c.int(int64(i + 1))
				c.int(int64(line + 1))
				c.int(int64(1 + d.early(s.products())))
				c.int(int64(1 + d.below(12)))
				c.decimal(price(d), 2)
				if d.chance(70) {
					c.null()
				} else {
					c.decimal(int64(25*(1+d.below(12))), 3)
				}
				c.bool(d.chance(3))
				c.end()
			}
		},
	},
}

// orNull draws the text before it decides on NULL, so that the sequence of random numbers
// does not depend on the decision.
func orNull(d *dice, c cells, percent int, text string) {
	if d.chance(percent) {
		c.null()
		return
	}
	c.text(text)
}

func price(d *dice) int64 { return int64(99 + d.below(50_000)) }

func moment(d *dice) int64 {
	return int64(firstDay+d.below(days))*dayMicros + int64(d.below(dayMicros))
}

func postcode(d *dice) string {
	n := d.below(100_000)
	digits := []byte("00000")
	for i := 4; i >= 0; i-- {
		digits[i] += byte(n % 10)
		n /= 10
	}
	return string(digits)
}

func uuid(d *dice) string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], d.pcg.Uint64())
	binary.BigEndian.PutUint64(raw[8:], d.pcg.Uint64())
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	out := make([]byte, 0, 36)
	for i, group := range [][]byte{raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:]} {
		if i > 0 {
			out = append(out, '-')
		}
		out = hex.AppendEncode(out, group)
	}
	return string(out)
}

func mail(name, i int, host string) string {
	return mailNames[name%len(mailNames)] + "." + itoa(i+1) + "@" + host
}

func itoa(n int) string {
	var digits [20]byte
	at := len(digits)
	for ok := true; ok; ok = n > 0 {
		at--
		digits[at] = byte('0' + n%10)
		n /= 10
	}
	return string(digits[at:])
}

var (
	firstNames = []string{
		"Anna", "Björn", "Chloé", "Dagný", "Emil", "Fatima", "Günther", "Hanna", "Ioana", "Jürgen", "Käthe", "Łukasz",
		"Marie-Luise", "Noël", "Óscar", "Petra", "Quentin", "Renée", "Søren", "Тамара", "Uwe", "Verónica", "Wei", "Xóchitl", "Yusuf", "李娜",
	}
	lastNames = []string{
		"Müller", "O'Brien", "de la Cruz", "Schäfer", "Nguyễn", "Smith", "García Ñíguez", "Weiß", "Kowalska", "Ångström",
		"van der Berg", "D'Angelo", "Öztürk", "Jones", "Χατζής", "Peñalosa", "Strauß-Köhler", "Tan",
	}
	mailNames = []string{"anna", "bjoern", "chloe", "d.n", "emil", "f+shop", "guenther"}
	companies = []string{
		", Sons & Co.", " GmbH", " \"The Blue Door\" Ltd.", " & Töchter", ", Inc.", " S.à r.l.", " \"Nr. 1\", AG", "",
	}
	countries  = []string{"Deutschland", "Österreich", "Schweiz", "Polska", "España", "Côte d'Ivoire", "United Kingdom", "日本", "Brasil"}
	statuses   = []string{"new", "paid", "packed", "shipped", "returned"}
	colours    = []string{"red", "grün", "blue", "black", "white", "türkis", "rosé", "grey"}
	sizes      = []string{"small", "medium", "large"}
	things     = []string{"chair", "24\" monitor", "teapot", "Bücherregal", "lamp, standing", "rug", "3/4\" screw", "café table", "Kissen", "tent"}
	categories = []string{
		"Furniture", "Electronics", "Kitchen", "Garden", "Bücher",
		"Chairs", "Monitors", "Pots & pans", "Tools", "Romane", "Tables", "Cables, adapters", "Knives", "Seeds", "Krimis",
		"Beds", "\"Smart\" things", "Öfen", "Tents", "Lyrik",
	}
	notes = []string{
		"", "Leave it at the door.", "Ring twice,\nthen wait.", "Fragile: \"this side up\"", "Für Oma, nicht knicken!", "back\\slash and\ttab",
		" leading and trailing ", "first line\r\nsecond line\r\nthird line", "NULL", "\\N", "7% off, as agreed; see #42", "007", "naïve café, ½ price — 100 €",
		"A longer remark that runs over a good many words, as people write them when a form gives them room and they have had a cup of coffee: the parcel may go to the neighbours on the left, but not to those on the right.",
	}
)
