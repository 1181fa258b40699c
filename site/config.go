package site

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"

	"github.com/holdfast-pam/holdfast/events/seal/keyring"
)

// Config is a site's configuration: one YAML file whose sections and keys are
// the tags below, each key overridden by HOLDFAST_SECTION_KEY in the
// environment (HOLDFAST_SSH_LISTEN), and those by flags. Unknown keys are
// errors. Durations are written like 30s, sizes in bytes.
type Config struct {
	Site     SiteConfig     `koanf:"site"`
	SSH      SSHConfig      `koanf:"ssh"`
	Log      LogConfig      `koanf:"log"`
	Keys     KeysConfig     `koanf:"keys"`
	Mesh     MeshConfig     `koanf:"mesh"`
	Rotation RotationConfig `koanf:"rotation"`
}

// SiteConfig is the section "site".
type SiteConfig struct {
	// Name is what people call the site. It is set when the data directory is
	// made and can't change afterwards. Default: the host's name.
	Name string `koanf:"name"`
	// Data is the directory that holds everything the site keeps. There is no
	// default: the flag --data or this key must name it.
	Data string `koanf:"data"`
}

// SSHConfig is the section "ssh": the gateway.
type SSHConfig struct {
	// Listen is the address of the gateway. An address that is not loopback is
	// refused until an administrator exists.
	Listen string `koanf:"listen"`
	// LoginGrace is how long a client may take to log in, the time that
	// dialling the target takes apart.
	LoginGrace time.Duration `koanf:"login_grace"`
	// DialTimeout is how long the gateway waits for a connection to a target;
	// the login there may take twice as long.
	DialTimeout time.Duration `koanf:"dial_timeout"`
	// MaxUnauthenticated bounds the connections that have not logged in yet.
	MaxUnauthenticated int `koanf:"max_unauthenticated"`
	// MaxUnauthenticatedPerSource bounds them for one client address (IPv6: one
	// /64): one more takes the place of the one that has waited longest.
	MaxUnauthenticatedPerSource int `koanf:"max_unauthenticated_per_source"`
	// MaxRatePerSource bounds how many connections one client address may begin
	// in a second; at once it may begin twice as many.
	MaxRatePerSource int `koanf:"max_rate_per_source"`
	// StoragePause is how long a session waits for room when the log is full,
	// before it ends.
	StoragePause time.Duration `koanf:"storage_pause"`
	// PeerTimeout is how long a client or target may acknowledge nothing before
	// its connection counts as gone: machines that lost power, networks that
	// were cut. Who is only idle, or reads nothing, acknowledges. At least 8s.
	PeerTimeout time.Duration `koanf:"peer_timeout"`
}

// LogConfig is the section "log": the embedded event log.
type LogConfig struct {
	// SegmentSize is the size of a segment file in bytes.
	SegmentSize int64 `koanf:"segment_size"`
	// Headroom is kept for each log, in bytes, for what must still be written
	// when the disk is full: ends of sessions, an administrator's decisions.
	Headroom int64 `koanf:"headroom"`
}

// KeysConfig is the section "keys": what holds the site's private key, which
// opens its data keys.
type KeysConfig struct {
	// Provider is what holds the key that a new site, and each rekey, makes:
	// "file", "passphrase", "credential", "shares" or "pkcs11". Another value than
	// that of the key in use changes nothing until `vault rekey`. A site whose
	// first key needs somebody to enter a secret begins with a key file.
	Provider string `koanf:"provider"`
	// SiteKey is the key file of provider "file", mode 0600. Default:
	// keys/site.key in the data directory; another volume is better.
	SiteKey string `koanf:"site_key"`
	// Credential is the name of the systemd credential of provider "credential"
	// (LoadCredentialEncrypted=). Its content is 32 random bytes or more.
	Credential string `koanf:"credential"`
	// Shares is how many shares provider "shares" makes, and Threshold how many
	// of them open the key, 2 at least.
	Shares    int `koanf:"shares"`
	Threshold int `koanf:"threshold"`
	// PKCS11Module is the library of the token of provider "pkcs11", and
	// PKCS11Token the token's label.
	PKCS11Module string `koanf:"pkcs11_module"`
	PKCS11Token  string `koanf:"pkcs11_token"`
	// PKCS11PINFile is a file with the token's PIN, mode 0600, for a site that
	// unseals itself. Without it somebody enters the PIN (`vault unseal`).
	PKCS11PINFile string `koanf:"pkcs11_pin_file"`
	// PKCS11Helper is the program that loads the library. Default:
	// holdfast-pkcs11 beside this program.
	PKCS11Helper string `koanf:"pkcs11_helper"`
}

// MeshConfig is the section "mesh": links to other sites.
type MeshConfig struct {
	// Listen is the address of the mesh port, to which other sites connect. Empty
	// for a site that takes no links and invites nobody.
	Listen string `koanf:"listen"`
	// Advertise is the HOST:PORT at which the other sites reach the mesh port.
	// Default: the address that it listens on, which is of no use to others behind a
	// translated one. Where that is 0.0.0.0, they take what they saw when it joined.
	Advertise string `koanf:"advertise"`
	// Pair is the name of another site with which this one is a pair: no byte of a
	// session is delivered, and no decision answered, before it is durable at both.
	// It takes both sites' configurations to have it in both directions.
	Pair string `koanf:"pair"`
	// PairDetect is how long the other half may acknowledge nothing before this
	// site goes on without it, and records that it does. At least 10ms.
	PairDetect time.Duration `koanf:"pair_detect"`
	// Recordings says what this site keeps of sessions that run at other sites:
	// "all", or "headers": what proves that they are complete, and the rest comes
	// from who holds it when somebody reads them.
	Recordings string `koanf:"recordings"`
	// RecRate bounds what is sent of session recordings on each link, in bytes a
	// second; 0 for no bound. Decisions are never held back.
	RecRate uint64 `koanf:"rec_rate"`
}

// The values of mesh.recordings.
const (
	allRecordings = "all"
	headersOnly   = "headers"
)

// Defaults are the values used where nothing else is said.
func Defaults() Config {
	return Config{
		SSH: SSHConfig{
			Listen:                      "127.0.0.1:2222",
			LoginGrace:                  30 * time.Second,
			DialTimeout:                 10 * time.Second,
			MaxUnauthenticated:          200,
			MaxUnauthenticatedPerSource: 64,
			MaxRatePerSource:            32,
			StoragePause:                10 * time.Second,
			PeerTimeout:                 4 * time.Minute,
		},
		Log:  LogConfig{SegmentSize: 64 << 20, Headroom: 16 << 20},
		Mesh: MeshConfig{Recordings: allRecordings, PairDetect: 100 * time.Millisecond},
		Keys: KeysConfig{Provider: string(keyring.File), Credential: "holdfast-site-key", Shares: 5, Threshold: 3},
	}
}

// LoadConfig reads the configuration: defaults, then file (unless its name is
// empty), then environ ("KEY=value" lines as of os.Environ).
func LoadConfig(file string, environ []string) (Config, error) {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(Defaults(), "koanf"), nil); err != nil {
		return Config{}, fmt.Errorf("load defaults: %w", err)
	}
	known := k.All()
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return Config{}, fmt.Errorf("read configuration: %w", err)
		}
		if err := k.Load(rawbytes.Provider(b), yaml.Parser()); err != nil {
			return Config{}, fmt.Errorf("configuration %s is not valid YAML: %w", file, err)
		}
	}
	overrides := env.Provider(".", env.Opt{Prefix: "HOLDFAST_", TransformFunc: envKey, EnvironFunc: func() []string { return environ }})
	if err := k.Load(overrides, nil); err != nil {
		return Config{}, fmt.Errorf("read HOLDFAST_ variables: %w", err)
	}
	if err := unknownKeys(k.Keys(), known); err != nil {
		return Config{}, err
	}
	var c Config
	err := k.UnmarshalWithConf("", &c, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		Result:           &c,
		ErrorUnused:      true,
		WeaklyTypedInput: true,
		DecodeHook:       mapstructure.StringToTimeDurationHookFunc(),
	}})
	var bad *mapstructure.DecodeError
	if errors.As(err, &bad) {
		return Config{}, fmt.Errorf("configuration: %s: %v is not %s", bad.Name(), k.Get(bad.Name()), valueOf(known[bad.Name()]))
	}
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

// execKeys begins the keys of programs, which bear names of the site's own.
const execKeys = "rotation.exec."

// unknownKeys refuses keys that the configuration does not have.
func unknownKeys(given []string, known map[string]any) error {
	var errs []error
	for _, key := range given {
		if strings.HasPrefix(key, execKeys) { // their names are the site's own
			continue
		}
		if _, ok := known[key]; !ok {
			errs = append(errs, fmt.Errorf("configuration: there is no key %s; the keys are %s", key, nearest(key, known)))
		}
	}
	return errors.Join(errs...)
}

// nearest lists the keys of a key's section, or of all where there is no such
// section.
func nearest(key string, known map[string]any) string {
	all := slices.Sorted(maps.Keys(known))
	section, _, _ := strings.Cut(key, ".")
	own := slices.DeleteFunc(slices.Clone(all), func(k string) bool { return !strings.HasPrefix(k, section+".") })
	if len(own) > 0 {
		all = own
	}
	return strings.Join(all, ", ")
}

// valueOf says what values a key takes, by its default.
func valueOf(v any) string {
	switch v.(type) {
	case time.Duration:
		return "a length of time such as 30s"
	case int, int64, uint64:
		return "a whole number"
	}
	return "a text"
}

// envKey turns HOLDFAST_SSH_LOGIN_GRACE into ssh.login_grace. Variables of no
// section are not of the site's configuration.
func envKey(name, value string) (string, any) {
	section, key, ok := strings.Cut(strings.ToLower(strings.TrimPrefix(name, "HOLDFAST_")), "_")
	if !ok {
		return "", nil
	}
	for i := range reflect.TypeFor[Config]().NumField() {
		if reflect.TypeFor[Config]().Field(i).Tag.Get("koanf") == section {
			return section + "." + key, value
		}
	}
	return "", nil
}

// Check reports the first value that can't work.
func (c *Config) Check() error {
	var errs []error
	bad := func(key string, format string, a ...any) {
		errs = append(errs, fmt.Errorf("configuration: "+key+": "+format, a...))
	}
	if c.Site.Data == "" {
		bad("site.data", "no data directory; name one with --data DIR")
	}
	if _, err := net.ResolveTCPAddr("tcp", c.SSH.Listen); err != nil {
		bad("ssh.listen", "%q is not an ADDRESS:PORT of this machine: %w", c.SSH.Listen, err)
	}
	for key, d := range map[string]time.Duration{
		"ssh.login_grace": c.SSH.LoginGrace, "ssh.dial_timeout": c.SSH.DialTimeout, "ssh.storage_pause": c.SSH.StoragePause,
	} {
		if d <= 0 || d > time.Hour {
			bad(key, "%v is out of range, more than 0 and at most 1h", d)
		}
	}
	if c.SSH.PeerTimeout < 8*time.Second || c.SSH.PeerTimeout > 24*time.Hour {
		bad("ssh.peer_timeout", "%v is out of range, 8s to 24h", c.SSH.PeerTimeout)
	}
	for key, n := range map[string]int{
		"ssh.max_unauthenticated": c.SSH.MaxUnauthenticated, "ssh.max_unauthenticated_per_source": c.SSH.MaxUnauthenticatedPerSource,
		"ssh.max_rate_per_source": c.SSH.MaxRatePerSource,
	} {
		if n < 1 {
			bad(key, "%d is out of range, at least 1", n)
		}
	}
	if c.Log.SegmentSize < 8<<20 || c.Log.SegmentSize > 4<<30 {
		bad("log.segment_size", "%d is out of range, 8 MiB to 4 GiB", c.Log.SegmentSize)
	}
	if c.Log.Headroom < 1<<20 || c.Log.Headroom > c.Log.SegmentSize {
		bad("log.headroom", "%d is out of range, 1 MiB to the size of a segment", c.Log.Headroom)
	}
	if c.Mesh.Listen != "" {
		if _, err := net.ResolveTCPAddr("tcp", c.Mesh.Listen); err != nil {
			bad("mesh.listen", "%q is not an ADDRESS:PORT of this machine: %w", c.Mesh.Listen, err)
		}
	}
	if c.Mesh.Recordings != allRecordings && c.Mesh.Recordings != headersOnly {
		bad("mesh.recordings", "%q is neither %q nor %q", c.Mesh.Recordings, allRecordings, headersOnly)
	}
	if c.Mesh.PairDetect < 10*time.Millisecond || c.Mesh.PairDetect > time.Minute {
		bad("mesh.pair_detect", "%v is out of range, 10ms to 1m", c.Mesh.PairDetect)
	}
	if c.Mesh.Advertise != "" && !aggregate.IsMeshAddr(c.Mesh.Advertise) {
		bad("mesh.advertise", "%q is not the HOST:PORT at which others reach this site", c.Mesh.Advertise)
	}
	if err := rotator.CheckPrograms(c.Rotation.Exec); err != nil {
		errs = append(errs, fmt.Errorf("configuration: %w", err))
	}
	return errors.Join(append(errs, c.Keys.check())...)
}

// Loopback reports whether what listens at addr ("HOST:PORT") is reached from
// this machine only.
func Loopback(addr string) bool {
	a, err := net.ResolveTCPAddr("tcp", addr)
	return err == nil && a.IP.IsLoopback()
}
