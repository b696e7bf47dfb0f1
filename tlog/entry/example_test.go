package entry_test

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/sigstack/sigstack/tlog/entry"
)

func ExamplePropose() {
	file, err := os.ReadFile("../../test/vectors/rekor/hashedrekord-p256.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	var vector struct{ Request json.RawMessage }
	if err := json.Unmarshal(file, &vector); err != nil {
		fmt.Println(err)
		return
	}
	e, err := entry.Propose(vector.Request)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s %s\n%.56s...\n", e.Kind, e.Version, e.Body)
	for _, key := range e.Keys {
		fmt.Println(key)
	}
	// Output:
	// hashedrekord 0.0.1
	// {"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"dat...
	// fbc5133bb9878872bf73bb641d32ca15af02635f9bf0ec6ceeb2f93aadd9ce99
	// sha256:3585ff92a190a8dc23da1c2dde1cdd4662d0e0b15ae68ad04e635d9097425bd0
	// sha256:fbc5133bb9878872bf73bb641d32ca15af02635f9bf0ec6ceeb2f93aadd9ce99
}
