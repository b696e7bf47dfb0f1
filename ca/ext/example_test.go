package ext_test

import (
	"fmt"

	"github.com/sigstack/sigstack/ca/ext"
)

func Example() {
	list, err := ext.Values{Issuer: "https://issuer.example.com", Subject: "dev"}.Extensions()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range list {
		fmt.Printf("%v %x\n", e.Id, e.Value)
	}
	san, err := ext.SAN{Kind: ext.Email, Value: "dev@example.com"}.Extension()
	fmt.Printf("%v %v %x %v\n", san.Id, san.Critical, san.Value, err)
	// Output:
	// 1.3.6.1.4.1.57264.1.1 68747470733a2f2f6973737565722e6578616d706c652e636f6d
	// 1.3.6.1.4.1.57264.1.8 0c1a68747470733a2f2f6973737565722e6578616d706c652e636f6d
	// 1.3.6.1.4.1.57264.1.24 0c03646576
	// 2.5.29.17 true 3011810f646576406578616d706c652e636f6d <nil>
}
