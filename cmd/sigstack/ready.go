package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func readyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ready",
		Short: "Say whether the server that runs here could sign now",
		Long: `ready asks /readyz on the ops-listen address of the same configuration as
"sigstack serve". It exits with 0 when the server is ready, with 1 and the reason
when it is not or does not answer, and with 2 when the configuration is wrong. It
is the health check of a container, which has no other program to ask with.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			// An address without a host, or with 0.0.0.0, is dialed on this machine.
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, "http://"+c.OpsListen+"/readyz", nil)
			if err != nil {
				return fmt.Errorf("ops-listen: %w", err)
			}
			// Never through a proxy: engines put its variables into containers.
			direct := &http.Client{Timeout: readyLimit, Transport: &http.Transport{}}
			if _, err := do(direct, req); err != nil {
				fmt.Fprintln(cmd.OutOrStdout(), "not ready:", err)
				return errFindings
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "ready")
			return err
		},
	}
	configFlags(cmd)
	return cmd
}

// readyLimit is longer than /readyz lets its checks take.
const readyLimit = 8 * time.Second
