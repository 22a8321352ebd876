// Command server is Taskflow: it reads its configuration, wires the store, the engine and the HTTP interface together,
// and holds no logic of its own.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"taskflow/internal/telemetry"

	"github.com/alecthomas/kong"
)

// cli is the command line. Every flag is an environment variable too.
type cli struct {
	Database databaseConfig `embed:""`
	Log      logConfig      `embed:""`

	Serve       serveCommand       `cmd:"" default:"withargs" help:"Serve the API (the default)."`
	Migrate     migrateCommand     `cmd:"" help:"Bring the database's schema to a version, and exit."`
	Prune       pruneCommand       `cmd:"" help:"Erase flows that ended long ago, with their steps and trail."`
	Rotate      rotateCommand      `cmd:"" name:"rotate-callback-key" help:"Make a new key for callback URLs; those that are out live on until their wait ends."`
	Keys        keysCommand        `cmd:"" help:"Make, list and revoke API keys."`
	Healthcheck healthcheckCommand `cmd:"" help:"Ask a running server whether it is ready; exit 1 where it is not."`
	OpenAPI     openapiCommand     `cmd:"" name:"openapi" help:"Print the API's contract."`
}

func main() {
	useThreads()
	ballast := newBallast()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	runtime.KeepAlive(ballast)
	if err != nil {
		fmt.Fprintln(os.Stderr, "server: "+err.Error())
		os.Exit(1)
	}
}

// run reads the configuration and runs the command it names, until ctx ends.
func run(ctx context.Context, args, environment []string, stdout, stderr io.Writer) error {
	var c cli
	exited := false
	parser, err := kong.New(&c,
		kong.Name("server"),
		kong.Description("Taskflow keeps durable flows over HTTP."),
		kong.Vars{"version": version()},
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }), // --help is no reason to end the process from within a library
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(stdout, (*io.Writer)(nil)),
		kong.Bind(asides{stderr}),
	)
	if err != nil {
		return fmt.Errorf("building the command line: %w", err)
	}
	parsed, err := parser.Parse(args)
	if exited {
		return nil
	}
	if err := checkEnvironment(environment, knownVariables(parser.Model)); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return parsed.Run(&c.Database, telemetry.NewLogger(stderr, string(c.Log.Format), c.Log.Level))
}

// knownVariables are the variables that some flag reads.
func knownVariables(model *kong.Application) map[string]bool {
	known := map[string]bool{}
	var walk func(*kong.Node)
	walk = func(n *kong.Node) {
		for _, f := range n.Flags {
			for _, name := range f.Envs {
				known[name] = true
			}
		}
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(model.Node)
	return known
}

// prefix is what the variables of this program begin with.
const prefix = "TASKFLOW_"

// checkEnvironment refuses variables with the prefix that nothing reads: most are a slip of the pen. Kubernetes sets
// some of its own for a service named taskflow.
func checkEnvironment(environment []string, known map[string]bool) error {
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case !strings.HasPrefix(name, prefix), known[name]:
		case strings.HasPrefix(name, prefix+"SERVICE_"), strings.HasPrefix(name, prefix+"PORT"):
		default:
			return fmt.Errorf("unknown variable %s: server serve --help has those there are", name)
		}
	}
	return nil
}
