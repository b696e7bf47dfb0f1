package identity_test

import (
	"context"
	"fmt"

	"github.com/sigstack/sigstack/ca/identity"
)

// A Verifier for two providers and a family of them. It is made without a request.
func ExampleNewVerifier() {
	v, err := identity.NewVerifier(identity.Config{Issuers: []identity.Issuer{
		{URL: "https://accounts.google.com", ClientID: "sigstore", Type: "email"},
		{URL: "https://token.actions.githubusercontent.com", ClientID: "sigstore", Type: "github-workflow"},
		{URL: "https://login.example.com/realms/*", ClientID: "sigstore", Type: "email", SkipEmailVerification: true},
	}}, identity.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, i := range v.Issuers() {
		fmt.Println(i.URL, i.IsPattern(), i.ChallengeClaim())
	}
	_, err = v.Verify(context.Background(), "not-a-token")
	fmt.Println(err)
	// Output:
	// https://accounts.google.com false email
	// https://token.actions.githubusercontent.com false sub
	// https://login.example.com/realms/* true email
	// There was an error processing the identity token: the token has 0 dots, a compact JWS has 2
}
