package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/archive"
	"github.com/countersign/countersign/audit"
	"github.com/countersign/countersign/catalog"
	"github.com/countersign/countersign/identity/token"
	"github.com/countersign/countersign/internal/clock"
	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/registry"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/signer"
	"github.com/countersign/countersign/tlog/sequencer"
	"github.com/countersign/countersign/trust"
	"github.com/countersign/countersign/verifier"
)

// Log is the transparency log as the door serves it; reading without a shard
// reads the one that is written. It is *sequencer.Log.
type Log interface {
	// Append logs a body and returns its entry once a published checkpoint
	// covers it; the same body has one entry.
	Append(ctx context.Context, body []byte) (*rekorpb.TransparencyLogEntry, error)
	// Entry returns an entry with a fresh inclusion proof.
	Entry(ctx context.Context, index uint64) (*rekorpb.TransparencyLogEntry, error)
	logReader
	// Shard is a shard by its number, from 1, and ShardOf by its log id;
	// sequencer.ErrNotFound for any other.
	Shard(number int) (*sequencer.Sequencer, error)
	ShardOf(logID []byte) (*sequencer.Sequencer, error)
	// Consistency proves a smaller tree the beginning of a larger one; 0 for to
	// is the published one.
	Consistency(ctx context.Context, from, to uint64) (sequencer.Consistency, error)
}

// logReader is what a shard and the whole log have in common.
type logReader interface {
	// Checkpoint returns the published signed note.
	Checkpoint(ctx context.Context) ([]byte, error)
	// ReadTile returns a file of the tlog-tiles layout by its path, which it
	// parses strictly.
	ReadTile(ctx context.Context, path string) ([]byte, error)
}

// Timestamper answers RFC 3161 queries.
type Timestamper interface {
	// Respond answers a DER TimeStampReq with a DER TimeStampResp.
	Respond(ctx context.Context, query []byte) ([]byte, error)
	// ChainPEM is the certificate chain, leaf first.
	ChainPEM() []byte
}

// RegistryChecker looks at a registry host through its rule.
type RegistryChecker interface {
	Check(ctx context.Context, host, repository string) (registry.CheckReport, error)
}

// Config is what a Server is made of. Every part is required unless it says
// otherwise.
type Config struct {
	// VerifyOnly leaves out every route but those of verification, admission,
	// decisions and operation. Then the parts that sign, keep keys and the log, and
	// that manage, are not needed: Signer, Keys, Registry, Log, LogSearch,
	// Timestamper and Trust.
	VerifyOnly    bool
	Signer        *signer.Signer
	Verifier      *verifier.Verifier
	Keys          *keys.Ring
	Catalog       *catalog.Catalog
	Tokens        *token.Tokens
	Authenticator Authenticator
	// IdentityTokens is optional; without it no JWT authenticates.
	IdentityTokens IdentityTokens
	// ClientCertificates is optional; without it no certificate authenticates.
	ClientCertificates ClientCertificates
	Registry           RegistryChecker
	Log                Log
	LogSearch          LogSearch
	Timestamper        Timestamper
	Archive            *archive.Archive
	Journal            *audit.Journal
	// Trust is the trusted root in force.
	Trust func() trust.Root
	// Certificates serves the Fulcio protocol; optional, without it there are no
	// such routes. Callers authenticate with IdentityTokens.
	Certificates Certificates
	// Authorities rotates the keys of the authorities; optional, without it
	// there are no such routes.
	Authorities Authorities
	// TUF serves /tuf/; optional, without it there is no such route.
	TUF TUF
	// Ready reports why the server cannot do its work now, by the name of the
	// part; optional. It is shown to anybody, so values are "ok" or a short
	// fixed text.
	Ready func(ctx context.Context) map[string]error
	Clock clock.Clock
	// NewID makes UUIDv7 request ids.
	NewID  func() string
	Logger *slog.Logger
	// Version of the program, told by /healthz; optional.
	Version string
	// Anchors knows the log entries of the journal; nil names none.
	Anchors Anchors
	// Collectors are more metrics to expose; optional.
	Collectors []prometheus.Collector
	// LogModes makes the log read-only; optional, without it there is no such
	// route.
	LogModes LogModes
	// Backup serves POST /v1/backup; optional, without it there is no such route.
	Backup Backup
	// Admission are the rules of the admission endpoints; optional, those of the
	// zero settings.
	Admission *admission.Rules
	// PullSecrets are used for admission; optional, none are.
	PullSecrets PullSecretsConfig
	// ServingCA returns the authority of the service's own TLS certificate in
	// PEM; optional, nil or empty where somebody else made the certificate.
	ServingCA func() []byte
	// Heartbeat is the pause between comments on an idle event stream;
	// optional, 15 seconds.
	Heartbeat time.Duration

	// AnonymousVerify opens the verify and admission endpoints to everybody.
	AnonymousVerify bool
	// AnonymousLogWrites opens POST /api/v2/log/entries to everybody: stock
	// clients send no credentials.
	AnonymousLogWrites bool
	// AnonymousMetrics opens /metrics to everybody.
	AnonymousMetrics bool
}

// Server is the HTTP door. It is safe for concurrent use.
type Server struct {
	cfg         Config
	engine      *gin.Engine
	api         huma.API
	access      map[route]access
	problems    []row
	metrics     *metrics
	crossOrigin *http.CrossOriginProtection
	openapi     []byte
	// large holds a place for each large body that is being worked on.
	large chan struct{}
	// searches holds a place for each search of the log.
	searches chan struct{}
}

// New assembles the routes. It fails when a part is missing, or when the
// routes and the role table differ.
func New(cfg Config) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Collectors)
	if err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	engine := newEngine()
	s := &Server{
		cfg: cfg, engine: engine, access: roleTable(cfg), problems: problemTable(),
		metrics: m, crossOrigin: http.NewCrossOriginProtection(), large: make(chan struct{}, limits.LargeBodies),
		searches: make(chan struct{}, limits.LogSearches),
	}
	s.use()
	s.api = newAPI(engine)
	s.routes()
	if served := s.served(); cfg.VerifyOnly {
		maps.DeleteFunc(s.access, func(r route, _ access) bool { return !served[r] })
	}
	if s.openapi, err = spec(s.api); err != nil {
		return nil, err
	}
	return s, s.checkRoutes()
}

// newEngine is gin without its conveniences: no redirect to another spelling
// of a path, no trust in forwarding headers.
func newEngine() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.RedirectTrailingSlash = false
	engine.RedirectFixedPath = false
	engine.RemoveExtraSlash = false
	engine.HandleMethodNotAllowed = true
	engine.ForwardedByClientIP = false
	return engine
}

func (s *Server) routes() {
	s.engine.NoRoute(func(c *gin.Context) { s.fail(c, s.noRoute()) })
	s.engine.NoMethod(func(c *gin.Context) { s.fail(c, errNoMethod) })
	s.verifyRoutes()
	s.blobRoutes()
	s.admissionRoutes()
	s.decisionRoutes()
	s.healthRoutes()
	s.meRoute()
	if s.cfg.VerifyOnly {
		return
	}
	s.signatureRoutes()
	s.attestationRoutes()
	s.operationRoutes()
	s.keyRoutes()
	s.registryRoutes()
	s.policyRoutes()
	s.policyTestRoutes()
	s.exceptionRoutes()
	s.forecastRoutes()
	s.grantRoutes()
	s.issuerRoutes()
	s.trustRootRoutes()
	s.authorityRoutes()
	s.tokenRoutes()
	s.artifactRoutes()
	s.auditRoutes()
	s.logRoutes()
	s.logSearchRoutes()
	s.timestampRoutes()
	s.trustRoutes()
	s.tufRoutes()
	s.fulcioRoutes()
	s.backupRoutes()
	s.logModeRoutes()
}

// noRoute tells callers of a server that only verifies why it lacks a route that
// they know.
func (s *Server) noRoute() error {
	if s.cfg.VerifyOnly {
		return errVerifyOnly
	}
	return errNoRoute
}

// Handler answers requests.
func (s *Server) Handler() http.Handler { return clusterPaths(s.engine) }

// OpenAPI is the document served as /openapi.json.
func (s *Server) OpenAPI() []byte { return append([]byte(nil), s.openapi...) }

func (c *Config) complete() error {
	missing := map[string]bool{
		"Verifier": c.Verifier == nil, "Catalog": c.Catalog == nil, "Tokens": c.Tokens == nil, "Authenticator": c.Authenticator == nil,
		"Archive": c.Archive == nil, "Journal": c.Journal == nil,
		"Clock": c.Clock == nil, "NewID": c.NewID == nil, "Logger": c.Logger == nil,
	}
	if !c.VerifyOnly {
		maps.Copy(missing, map[string]bool{
			"Signer": c.Signer == nil, "Keys": c.Keys == nil, "Registry": c.Registry == nil, "Log": c.Log == nil,
			"LogSearch": c.LogSearch == nil, "Timestamper": c.Timestamper == nil, "Trust": c.Trust == nil,
		})
	}
	for name, missing := range missing {
		if missing {
			return errors.New("server: " + name + " is missing from the configuration")
		}
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.Admission == nil {
		var err error
		if c.Admission, err = admission.New(admission.Settings{}); err != nil {
			return fmt.Errorf("server: admission rules: %w", err)
		}
	}
	return nil
}
