package ext

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"reflect"
	"testing"

	"github.com/sigstack/sigstack/test/fuzz"
)

// extensions reads the extensions of an input, one after the other.
func extensions(in []byte) ([]pkix.Extension, error) {
	var list []pkix.Extension
	for len(in) > 0 {
		var e pkix.Extension
		rest, err := asn1.Unmarshal(in, &e)
		if err != nil {
			return nil, err
		}
		in, list = rest, append(list, e)
	}
	return list, nil
}

// Values that were read are written as the same extensions.
func FuzzParse(f *testing.F) {
	var seeds, all []*fuzz.Node
	for _, s := range fullDER {
		one := fuzz.Look(unhex(f, s))
		seeds, all = append(seeds, one), append(all, one)
	}
	seeds = append(seeds, fuzz.Seq(all...))
	parse := func(in []byte) (Values, error) {
		// encoding/asn1 is not ours, and an extension is many times the size of
		// the shortest one.
		if len(in) > 8<<10 {
			return Values{}, errors.New("longer than a certificate")
		}
		list, err := extensions(in)
		if err != nil {
			return Values{}, err
		}
		return Parse(list)
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, v Values, err error) {
		if err != nil {
			return
		}
		list, err := extensions(in)
		if err != nil {
			t.Fatal(err)
		}
		var ours []pkix.Extension
		for _, e := range list {
			if inArc(e.Id) {
				ours = append(ours, e)
			}
		}
		if again := mustExtensions(t, v); !reflect.DeepEqual(again, ours) {
			t.Fatalf("parsed and written again:\n%v\n%v", ours, again)
		}
	})
}

// A name that is accepted has one spelling, and crypto/x509 reads it.
func FuzzParseSAN(f *testing.F) {
	var seeds []*fuzz.Node
	for _, s := range []SAN{{Email, "dev@example.com"}, {URI, "https://e.example/a?b#c"}, {Username, "u!e.example"}} {
		e, err := s.Extension()
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, fuzz.Look(e.Value))
	}
	parse := func(in []byte) (SAN, error) {
		return ParseSAN(pkix.Extension{Id: oidSAN(), Critical: true, Value: in})
	}
	fuzz.Run(f, seeds, parse, func(t *testing.T, in []byte, s SAN, err error) {
		if err != nil {
			return
		}
		again, err := s.Extension()
		if err != nil || !bytes.Equal(again.Value, in) {
			t.Fatalf("%v %q: %x written again as %x, %v", s.Kind, s.Value, in, again.Value, err)
		}
		if _, err := certificate(t, []pkix.Extension{again}); err != nil {
			t.Fatalf("%v %q: crypto/x509 does not read it: %v", s.Kind, s.Value, err)
		}
	})
}
