package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sigstack/sigstack/ca"
)

// An installation puts a chain in place. The file of a chain names its key, so
// that one rename replaces both; the key lies there already. The order is
//
//	keep      the chain that signs goes to ca.retired, where nobody minds it
//	          while it signs
//	replace   ca.chain is renamed over -> after this line the new chain signs
//	tidy up   it is in ca.next no longer
//
// and doing it again after an interruption does what is left.
type installation struct {
	config *Config
	now    func() time.Time
	// step is called before everything that an interruption can separate from
	// what came before. Tests stop there; nil otherwise.
	step func(what string) error
}

func (i *installation) stepped(what string) error {
	if i.step == nil {
		return nil
	}
	return i.step(what)
}

// run installs the chain in a file, or announces it, and says what to do next.
func (i *installation) run(ctx context.Context, file, keyURI string, announce bool) (told string, err error) {
	c := i.config
	chain, _, err := readChainFile(file)
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(c.chainFile())
	if err := makeDir(dir); err != nil {
		return "", err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	var active *chainFile // nil before the first
	now, _, err := readChainFile(c.chainFile())
	switch {
	case err == nil:
		active = &now
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("the chain in use: %w", err)
	}
	if keyURI == "" {
		keyURI = c.keyURI(chain)
		if chain.key == "" && active != nil {
			keyURI = c.keyURI(*active)
		}
	}
	signer, err := openKey(ctx, keyURI, nil)
	if err != nil {
		return "", fmt.Errorf("the chain's key: %w", err)
	}
	if err := i.check(chain, signer, file); err != nil {
		return "", err
	}
	if chain.key, err = c.keyName(keyURI); err != nil {
		return "", err
	}
	if !goodKeyName(chain.key) {
		return "", errors.New("the URI of the key has a control character")
	}
	if announce {
		return i.announce(chain, active)
	}
	return i.activate(chain, active)
}

// check wants a chain that could sign at once.
func (i *installation) check(chain chainFile, signer crypto.Signer, file string) error {
	issuing, err := ca.NewChain(chain.certs, signer)
	if err != nil {
		return fmt.Errorf("%s: %w; name its key with --key, and see that the file has the issuing certificate first and the root last", file, err)
	}
	now := i.now()
	if err := issuing.Covers(now, now.Add(i.config.CA.Lifetime)); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// announce puts a chain into ca.next.
func (i *installation) announce(chain chainFile, active *chainFile) (string, error) {
	name := chainName(chain.certs)
	if active != nil && chainID(active.certs) == chainID(chain.certs) {
		return "", errors.New("this chain signs already, so it is published; there is nothing to announce")
	}
	retired := filepath.Join(i.config.retiredDir(), name)
	switch there, err := exists(retired); {
	case err != nil:
		return "", err
	case there:
		return "", fmt.Errorf("%s: this chain is retired; install it without --announce to sign with it again", retired)
	}
	if err := i.put(filepath.Join(i.config.nextDir(), name), chain); err != nil {
		return "", err
	}
	return i.say(chain, active, "is announced, and does not sign yet", `Next:
  a server that runs publishes it within 10 s, or at once: kill -HUP PID
  wait until clients have it (cosign asks again after a day), then
  sigstack ca install --chain `+filepath.Join(i.config.nextDir(), name)+` with the same configuration
`), nil
}

// activate makes a chain the one that signs.
func (i *installation) activate(chain chainFile, active *chainFile) (string, error) {
	c := i.config
	next := `Next:
  a server that runs takes it over within 10 s, or at once: kill -HUP PID
  its log says "certificates are issued by this chain", and the metric sigstack_ca_chain_expiry_timestamp_seconds its serial
`
	if active != nil && chainID(active.certs) == chainID(chain.certs) && active.key == chain.key {
		if err := i.tidy(chain); err != nil {
			return "", err
		}
		return i.say(chain, active, "signs already; nothing was changed", ""), nil
	}
	if active != nil && chainID(active.certs) != chainID(chain.certs) {
		kept := *active
		var err error
		if kept.key, err = c.keyName(c.keyURI(*active)); err != nil {
			return "", err
		}
		if err := i.put(filepath.Join(c.retiredDir(), chainName(kept.certs)), kept); err != nil {
			return "", err
		}
		next += "  the chain before stays published, from " + c.retiredDir() + "; its key may be destroyed once all servers have the new one\n"
	}
	if err := i.stepped("replace"); err != nil {
		return "", err
	}
	// The commit point.
	if err := writeFile(c.chainFile(), chain.text()); err != nil {
		return "", err
	}
	if err := i.tidy(chain); err != nil {
		return "", err
	}
	return i.say(chain, active, "signs from now on", next), nil
}

// tidy takes a chain that signs out of ca.next.
func (i *installation) tidy(chain chainFile) error {
	if err := i.stepped("tidy up"); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(i.config.nextDir(), chainName(chain.certs)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(i.config.nextDir()))
}

// put writes a chain into one of the directories.
func (i *installation) put(name string, chain chainFile) error {
	if err := i.stepped("put " + filepath.Base(filepath.Dir(name))); err != nil {
		return err
	}
	if err := makeDir(filepath.Dir(name)); err != nil {
		return err
	}
	return writeFile(name, chain.text())
}

// say tells what was done to which chain.
func (i *installation) say(chain chainFile, active *chainFile, what, next string) string {
	var b strings.Builder
	root := chain.certs[len(chain.certs)-1]
	fmt.Fprintf(&b, "The chain of %q, serial %s, %s.\n", chain.certs[0].Subject, serial(chain), what)
	if active != nil && !active.certs[len(active.certs)-1].Equal(root) {
		fmt.Fprintf(&b, "Its root is a new one: %s, serial %s, until %s.\n", root.Subject, serial(chainFile{certs: chain.certs[len(chain.certs)-1:]}), day(root.NotAfter))
	}
	b.WriteString(next)
	return b.String()
}

// lockDir keeps a second installation out until the first has ended, however it
// ends.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		d.Close()
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return func() { d.Close() }, nil
}
