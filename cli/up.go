package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/cli/console"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/site"
)

// upOptions are the flags of up.
type upOptions struct {
	config, data, listen, siteName      string
	meshListen, meshAdvertise, meshPair string
	adminName, adminKey                 string
}

var _ = local(func() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up --data DIR",
		Short: "Run a site in the foreground",
		Long: "Runs a site until it is told to stop (SIGTERM or Ctrl-C), and prints one line when it\n" +
			"is ready. A new data directory becomes a new site. The first administrator comes from\n" +
			"--admin-name and --admin-key; before there is one, the gateway listens on loopback only.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return up(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.config, "config", "", "configuration file (YAML)")
	f.StringVar(&o.data, "data", "", "directory that holds everything the site keeps")
	f.StringVar(&o.listen, "ssh-listen", "", "address of the SSH gateway (default 127.0.0.1:2222)")
	f.StringVar(&o.siteName, "site-name", "", "name of a new site (default: the host's)")
	f.StringVar(&o.meshListen, "mesh-listen", "", "address of the mesh port, for links with other sites (default: none)")
	f.StringVar(&o.meshAdvertise, "mesh-advertise", "", "HOST:PORT at which other sites reach the mesh port (default: where it listens)")
	f.StringVar(&o.meshPair, "mesh-pair", "", "name of the site with which this one is a pair: nothing is delivered before both hold it")
	f.StringVar(&o.adminName, "admin-name", "", "name of an administrator to make if there is none of that name, and the site has joined no mesh")
	f.StringVar(&o.adminKey, "admin-key", "", "their public key file")
	cmd.MarkFlagsRequiredTogether("admin-name", "admin-key")
	return cmd
})

func (o *upOptions) load() (site.Config, error) {
	cfg, err := site.LoadConfig(o.config, os.Environ())
	if err != nil {
		return cfg, err
	}
	for _, set := range []struct{ flag, key *string }{{&o.data, &cfg.Site.Data}, {&o.listen, &cfg.SSH.Listen}, {&o.siteName, &cfg.Site.Name}, {&o.meshListen, &cfg.Mesh.Listen},
		{&o.meshAdvertise, &cfg.Mesh.Advertise}, {&o.meshPair, &cfg.Mesh.Pair}} {
		if *set.flag != "" {
			*set.key = *set.flag
		}
	}
	return cfg, cfg.Check()
}

func up(cmd *cobra.Command, o upOptions) error {
	cfg, err := o.load()
	if err != nil {
		return &console.Fault{Exit: console.Usage, Message: err.Error(), Hint: "holdfast up --help"}
	}
	if err := seal.OverwriteFreed(); err != nil {
		return err
	}
	if err := seal.LockDown(); err != nil {
		return fmt.Errorf("keep secrets out of core dumps: %w", err)
	}
	tuneMemory()
	ctx := cmd.Context()
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	for {
		s, err := site.Open(ctx, cfg, Version().Version, log)
		if errors.Is(err, site.ErrInUse) {
			return &console.Fault{Exit: console.Conflict, Message: err.Error()}
		}
		if err != nil {
			return err
		}
		err = serve(ctx, cmd, s, log, o)
		if err = errors.Join(err, s.Close()); !errors.Is(err, site.ErrDoubt) || ctx.Err() != nil {
			return err
		}
		log.Warn("the site starts again in new logs")
		cfg = s.SameAddresses(cfg)
	}
}

// tuneMemory collects garbage twice as often as Go does by itself, unless GOGC
// says otherwise: most of what a gateway holds are idle sessions, and what
// their logins left behind would stay. docs/benchmarks.md has what it costs.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

func serve(ctx context.Context, cmd *cobra.Command, s *site.Site, log *slog.Logger, o upOptions) error {
	if o.adminName != "" && s.Lacks(o.adminName) {
		key, err := readBounded(o.adminKey, maxSiteFile)
		if err != nil {
			return fmt.Errorf("read the administrator's public key: %w", err)
		}
		if err := s.AddAdmin(ctx, o.adminName, string(key)); err != nil {
			return err
		}
	}
	err := s.Listen(ctx, consoleHandler{site: s, started: time.Now(), log: log})
	if errors.Is(err, site.ErrNoAdmin) {
		return &console.Fault{Exit: console.Denied, Message: err.Error(),
			Hint: "name one with --admin-name NAME --admin-key FILE.pub, or listen on 127.0.0.1"}
	}
	if err != nil {
		return err
	}
	ready := fmt.Sprintf("holdfast ready: site %s, ssh %s, data %s", s.Name(), s.Addr(), s.Dir())
	if addr := s.MeshAddr(); addr != "" {
		ready += ", mesh " + addr
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), ready); err != nil {
		return fmt.Errorf("tell that the site is ready: %w", err)
	}
	return s.Serve(ctx)
}
