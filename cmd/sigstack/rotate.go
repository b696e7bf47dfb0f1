package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sigstack/sigstack/trust/keys"
)

func rotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Go on with another key",
		Long: `Go on with another key, while the server runs.

The CA's is changed by "sigstack ca install".`,
	}
	cmd.AddCommand(rotateRekorCommand())
	return cmd
}

func rotateRekorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rekor",
		Short: "Have the transparency log go on in a new tree with a new key",
		Long: `rekor adds a key to the list of the transparency log's keys (rekor.shards). A
server that runs takes it over within 10 seconds, or at SIGHUP: it publishes the
key, freezes the tree in use, and goes on in a new one. No request fails. What is
in the trees before stays where it is, under its index, its UUID and its key; so
keep those keys.

With --announce the key is published, but does not sign yet. Clients that keep a
trust root for a day know it then, before they meet what it signs: announce it,
wait for a day, and rotate. Replicas need the list and the key before one of them
rotates: announce, copy both to each, then rotate on each.

The key is --key, or one that was announced, or else a new one, made in a file
beside the list. To do it again after an interruption is safe.`,
		Example: "  sigstack rotate rekor --config sigstack.yaml --announce\n  sigstack rotate rekor --config sigstack.yaml",
		Args:    cobra.NoArgs,
	}
	configFlags(cmd)
	key := cmd.Flags().String("key", "", "URI of the new key, as in keys.rekorv1")
	announce := cmd.Flags().Bool("announce", false, "publish the key, but do not sign with it yet")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loadConfig(cmd)
		if err != nil {
			return err
		}
		told, err := rotateRekor(cmd.Context(), &c, *key, *announce)
		if err != nil {
			return err
		}
		_, err = io.WriteString(cmd.OutOrStdout(), told)
		return err
	}
	return cmd
}

// rotateRekor writes the list of keys, and says what to do next.
func rotateRekor(ctx context.Context, c *Config, keyURI string, announce bool) (told string, err error) {
	dir := filepath.Dir(c.shardsFile())
	if err := makeDir(dir); err != nil {
		return "", err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	list, data, err := readShards(c)
	if err != nil {
		return "", err
	}
	if data == nil { // what the list would say
		if list.names[0], err = keyNameIn(dir, list.names[0]); err != nil {
			return "", err
		}
	}
	name := list.next
	switch {
	case name != "" && (announce || keyURI != ""):
		return "", fmt.Errorf("%s is announced already; rotate to it with `sigstack rotate rekor`, or take its line out of %s", shownKey(c.shardURI(name)), c.shardsFile())
	case name == "":
		if name, err = c.newShardKey(dir, list, keyURI); err != nil {
			return "", err
		}
	}
	if err := c.checkShardKey(ctx, list, name); err != nil {
		return "", err
	}
	if announce {
		list.next = name
	} else {
		list.names, list.next = append(list.names, name), ""
	}
	if len(list.all()) > maxShards {
		return "", fmt.Errorf("the log has %d trees, and no more than that are possible", maxShards)
	}
	if err := writeFile(c.shardsFile(), list.text()); err != nil {
		return "", err
	}
	if announce {
		return fmt.Sprintf(`The key of tree %d, %s, is announced, and does not sign yet.
Next:
  a server that runs publishes it within 10 s, or at once: kill -HUP PID
  copy %s and the key to all replicas
  wait until clients have it (cosign asks again after a day), then
  sigstack rotate rekor with the same configuration
`, len(list.names)+1, shownKey(c.shardURI(name)), c.shardsFile()), nil
	}
	return fmt.Sprintf(`The transparency log goes on in tree %d, with the key %s.
Next:
  a server that runs takes it over within 10 s, or at once: kill -HUP PID
  its log says "the transparency log goes on in a new tree"; /api/v1/log has the tree before under inactiveShards
  keep the keys of all trees: what is in them is signed with them for whoever asks
`, len(list.names), shownKey(c.shardURI(name))), nil
}

// newShardKey returns how the list names a key, which is made where none is given. One
// that is there already was made by a rotation that was interrupted.
func (c *Config) newShardKey(dir string, list shardKeys, uri string) (string, error) {
	if uri != "" {
		return keyNameIn(dir, uri)
	}
	name := shardName(len(list.names)) + ".pem"
	_, _, err := keys.OpenOrCreate(filepath.Join(dir, name), keys.P256)
	return name, err
}

// checkShardKey wants a key of the one kind that clients verify, which no tree has.
func (c *Config) checkShardKey(ctx context.Context, list shardKeys, name string) error {
	if !goodKeyName(name) {
		return errors.New("the URI of the key has a control character")
	}
	signer, err := openKey(ctx, c.shardURI(name), nil)
	if err != nil {
		return fmt.Errorf("the new key: %w", err)
	}
	key, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return fmt.Errorf("%s is no ECDSA P-256 key, the one kind that all clients verify", shownKey(c.shardURI(name)))
	}
	if slices.Contains(list.names, name) {
		return fmt.Errorf("%s is the key of a tree already; each tree has its own", shownKey(c.shardURI(name)))
	}
	for i, other := range list.names {
		signer, err := openKey(ctx, c.shardURI(other), nil)
		if err != nil {
			return fmt.Errorf("the key of tree %d: %w", i+1, err)
		}
		if key.Equal(signer.Public()) {
			return fmt.Errorf("%s is the key of tree %d already; each tree has its own", shownKey(c.shardURI(name)), i+1)
		}
	}
	return nil
}
