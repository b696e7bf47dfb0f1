// Command vault is a HashiCorp Vault for tests: its core, its transit engine and
// its HTTP API, as release 1.13 under the MPL has them, over memory. The
// program of that release cannot be installed with the go command, because its
// go.mod replaces modules; and with all its engines it would take ten times as long
// to build.
//
//	vault 127.0.0.1:8200
//
// It prints one line of JSON: address, root token, and the key that unseals it.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: vault HOST:PORT")
	}
	log.Fatal(run(os.Args[1]))
}

// run serves until it fails.
func run(address string) error {
	ctx := context.Background()
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:        storage,
		LogicalBackends: map[string]logical.Factory{"transit": transit.Factory},
		BuiltinRegistry: engines{},
		DisableMlock:    true,
		Logger:          logger,
	})
	if err != nil {
		return err
	}
	made, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}})
	if err != nil {
		return err
	}
	unseal := made.SecretShares[0]
	if open, err := core.Unseal(unseal); err != nil || !open {
		return fmt.Errorf("it was not unsealed: %w", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{
		"address": "http://" + listener.Addr().String(), "token": made.RootToken, "unseal": hex.EncodeToString(unseal),
	}); err != nil {
		return err
	}
	return http.Serve(listener, vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}}))
}

// engines are the plugins that are built in: transit.
type engines struct{}

func (engines) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	return func() (any, error) { return logical.Factory(transit.Factory), nil }, engines{}.Contains(name, kind)
}

func (engines) Keys(kind consts.PluginType) []string {
	if kind == consts.PluginTypeSecrets {
		return []string{"transit"}
	}
	return nil
}

func (engines) Contains(name string, kind consts.PluginType) bool {
	return kind == consts.PluginTypeSecrets && name == "transit"
}

func (engines) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, engines{}.Contains(name, kind)
}
