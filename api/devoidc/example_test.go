package devoidc_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"

	"github.com/sigstack/sigstack/api/devoidc"
)

func ExampleNew() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	issuer, err := devoidc.New(devoidc.Config{BaseURL: "http://localhost:8080", Key: key})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/oidc/", issuer)

	if _, err := issuer.EmailToken("dev@example.com"); err != nil {
		panic(err)
	}
	if _, err := issuer.GitHubToken(devoidc.GitHubClaims{Repository: "acme/widget"}); err != nil {
		panic(err)
	}
	fmt.Println(issuer.IssuerURL())
	fmt.Println(issuer.GitHubIssuerURL())
	// Output:
	// http://localhost:8080/oidc
	// http://localhost:8080/oidc/github
}
