package bucket

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestQuiet(t *testing.T) {
	refused := errors.New("connection refused")
	err := quiet(fmt.Errorf("blob: %w", &url.Error{Op: "Put", URL: "https://example.com/x?sig=hunter2", Err: refused}))
	if !errors.Is(err, refused) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	if err := quiet(refused); err != refused {
		t.Errorf("%v", err)
	}
}
