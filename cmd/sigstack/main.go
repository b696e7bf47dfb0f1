// Command sigstack is a complete self-hosted Sigstore in one process: the
// certificate authority (Fulcio API), its CT log, the transparency log (Rekor
// API), the TUF repository that clients take their trust from, and for
// development an OIDC issuer.
//
// This package reads the configuration, opens the keys, and wires the
// components; nothing else in the module does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// gcPercent lets the heap grow to five times what is live before it is
// collected. What is live is small (some 10 MB), so that costs little memory and
// saves a sixth of the CPU time of a certificate. GOGC and GOMEMLIMIT still work.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// Whoever commits waits for the disk, and the runtime leaves it the
		// processor for a while: with one to spare no core is idle meanwhile.
		// That is a tenth more entries a second on two cores.
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK       = 0
	exitFindings = 1 // fsck, audit verify, index rebuild --check, config check or policy test found something; the server is not ready
	exitError    = 2
)

// errFindings makes a command that did its work end with exitFindings.
var errFindings = errors.New("there are findings")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "sigstack",
		Short:         "A complete self-hosted Sigstore in one binary",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(
		serveCommand(), initCommand(), caCommand(), rotateCommand(), configCommand(), policyCommand(), readyCommand(), copyCommand(), importCommand(), tokenCommand(), writeTokenCommand(), clientConfigCommand(), fsckCommand(), auditCommand(), indexCommand(),
		&cobra.Command{
			Use: "version", Short: "Print the version", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "sigstack", version())
				return err
			},
		})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	switch err := root.ExecuteContext(ctx); {
	case err == nil:
		return exitOK
	case errors.Is(err, errFindings):
		return exitFindings
	default:
		fmt.Fprintln(stderr, "sigstack:", err)
		return exitError
	}
}

// version is that of the module, as the go command stamped it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
