package identity

import (
	"fmt"
	"strings"

	"github.com/sigstack/sigstack/ca/ext"
)

// The type "kubernetes": a service account of a cluster, named by its namespace and name. The
// certificate names the cluster by its issuer.

func prepareKubernetes(i Issuer) (resolver, error) {
	if err := i.onlyFields(); err != nil {
		return nil, err
	}
	return resolveKubernetes, nil
}

func resolveKubernetes(_ string, c claims) (resolved, error) {
	namespace, err := c.lookup([]string{"kubernetes.io", "namespace"})
	if err != nil {
		return resolved{}, err
	}
	account, err := c.lookup([]string{"kubernetes.io", "serviceaccount", "name"})
	if err != nil {
		return resolved{}, err
	}
	for what, name := range map[string]string{"namespace": namespace, "serviceaccount.name": account} {
		if !objectName(name) {
			return resolved{}, fmt.Errorf("the claim %q: %s is not the name of an object in Kubernetes", "kubernetes.io."+what, quote(name))
		}
	}
	return resolved{san: ext.SAN{Kind: ext.URI, Value: "https://kubernetes.io/namespaces/" + namespace + "/serviceaccounts/" + account}}, nil
}

// objectName reports whether s is a DNS subdomain (RFC 1123) in lower case, as the names of
// namespaces and service accounts are: nothing in it ends a segment of a path.
func objectName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}
