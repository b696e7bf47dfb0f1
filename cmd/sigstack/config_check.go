package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Look at a configuration file",
	}
	cmd.AddCommand(configCheckCommand())
	return cmd
}

func configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Name every mistake in a configuration file, with its line",
		Long: `check reads a configuration file as "sigstack serve" does, and lists what serve
would refuse, one mistake a line:

  FILE:LINE: key: what is wrong; what would be right

It opens no other file and no connection, and neither flags nor the environment
count. It exits with 0 when there is no mistake, with 1 when there is one, and
with 2 when the file cannot be read.`,
		Example: "  sigstack config check sigstack.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadFile(args[0])
			var found mistakes
			switch {
			case err == nil:
				if err := c.checkIssuers(); err != nil {
					found = mistakes{{file: args[0], text: err.Error()}}
				}
			case !errors.As(err, &found):
				return err
			}
			if len(found) > 0 {
				fmt.Fprintln(cmd.OutOrStdout(), found)
				return errFindings
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, no mistake\n", args[0], c.issuerCount())
			return err
		},
	}
}
