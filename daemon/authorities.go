package daemon

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/countersign/countersign/authority"
	"github.com/countersign/countersign/keys"
	"github.com/countersign/countersign/server"
	"github.com/countersign/countersign/trust"
)

// The authorities' keys in the ring, and their purposes.
const (
	stampRootPrefix = "countersign-tsa-root-"
	stampPrefix     = "countersign-tsa-"
	caRootPrefix    = "countersign-ca-root-"
	caPrefix        = "countersign-ca-"
	ctPrefix        = "countersign-ct-"
)

// generations are the keys of one job in the ring, one name for each, because
// a service key has no versions: PREFIX1, PREFIX2 and so on.
type generations struct {
	ring    ownRing
	prefix  string
	purpose string
}

// signers are all of them, oldest first.
func (g generations) signers(ctx context.Context) ([]crypto.Signer, error) {
	numbers, err := g.numbers(ctx)
	if err != nil {
		return nil, err
	}
	signers := make([]crypto.Signer, 0, len(numbers))
	for _, n := range numbers {
		signer, err := g.ring.Signer(ctx, g.name(n))
		if err != nil {
			return nil, fmt.Errorf("opening key %s: %w", g.name(n), err)
		}
		signers = append(signers, signer)
	}
	return signers, nil
}

// newest is the one in use; the first is made when there is none.
func (g generations) newest(ctx context.Context) (crypto.Signer, error) {
	signers, err := g.signers(ctx)
	if err != nil {
		return nil, err
	}
	if len(signers) == 0 {
		return g.add(ctx)
	}
	return signers[len(signers)-1], nil
}

// add makes the next one.
func (g generations) add(ctx context.Context) (crypto.Signer, error) {
	numbers, err := g.numbers(ctx)
	if err != nil {
		return nil, err
	}
	next := 1
	if len(numbers) > 0 {
		next = numbers[len(numbers)-1] + 1
	}
	if _, err := g.ensure(ctx, next); err != nil {
		return nil, err
	}
	return g.ring.Signer(ctx, g.name(next))
}

// ensure makes the one of that number if there is none.
func (g generations) ensure(ctx context.Context, n int) (keys.Key, error) {
	key, err := g.ring.Ensure(ctx, keys.Spec{Name: g.name(n), Algorithm: keys.ECDSAP256, Purposes: []string{g.purpose}})
	if err != nil {
		return keys.Key{}, fmt.Errorf("making key %s: %w", g.name(n), err)
	}
	return key, nil
}

func (g generations) name(n int) string { return g.prefix + strconv.Itoa(n) }

func (g generations) numbers(ctx context.Context) ([]int, error) {
	all, err := g.ring.Service(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing service keys: %w", err)
	}
	var numbers []int
	for _, key := range all {
		text, ours := strings.CutPrefix(key.Name, g.prefix)
		if n, err := strconv.Atoi(text); ours && err == nil && slices.Contains(key.Purposes, g.purpose) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (d *Daemon) stampKeys() generations    { return generations{d.ring, stampPrefix, "tsa"} }
func (d *Daemon) issuingKeys() generations  { return generations{d.ring, caPrefix, "ca"} }
func (d *Daemon) transparency() generations { return generations{d.ring, ctPrefix, "ct"} }

// openAuthorities opens the timestamp authority, the log and the certificate
// authority, which writes to the log, and publishes what outsiders must
// believe to verify them.
func (d *Daemon) openAuthorities(ctx context.Context, s *services) error {
	if err := d.openTimestamper(ctx, s); err != nil {
		return err
	}
	if err := d.openLog(ctx, s); err != nil {
		return err
	}
	if err := d.openIssuer(ctx, s); err != nil {
		return err
	}
	if err := d.openNotary(ctx, s); err != nil {
		return err
	}
	d.authorities = rotator{d, s}
	return d.publishTrust(s)
}

func (d *Daemon) openTimestamper(ctx context.Context, s *services) error {
	root, err := d.stampRoots().newest(ctx)
	if err != nil {
		return err
	}
	leaf, err := d.stampKeys().newest(ctx)
	if err != nil {
		return err
	}
	config := authority.TimestampConfig{
		Root: root, Leaf: leaf, Objects: d.local.Objects(), Organization: d.cfg.Organization, Clock: d.cfg.Clock,
	}
	s.stamper, err = authority.OpenTimestamper(ctx, config)
	if errors.Is(err, authority.ErrRevoked) {
		if config.Root, config.Leaf, err = d.nextStampKeys(ctx); err != nil {
			return err
		}
		s.stamper, err = authority.OpenTimestamper(ctx, config)
	}
	if err != nil {
		return fmt.Errorf("opening the timestamp authority: %w", err)
	}
	return nil
}

func (d *Daemon) openIssuer(ctx context.Context, s *services) error {
	held, err := d.issuerKeys(ctx)
	if err != nil {
		return err
	}
	config := authority.IssuerConfig{
		Keys: held, Objects: d.local.Objects(), Log: d.log, Organization: d.cfg.Organization, Clock: d.cfg.Clock,
	}
	s.issuer, err = authority.OpenIssuer(ctx, config)
	if errors.Is(err, authority.ErrRevoked) || errors.Is(err, authority.ErrRevokedCT) {
		s.issuer, err = d.reopenIssuer(ctx, config, err)
	}
	if err != nil {
		return fmt.Errorf("opening the certificate authority: %w", err)
	}
	return nil
}

// trustRoot is the trusted root in force. It is read from the authorities each
// time, so that what a new key vouches for is believed from its first use on.
func (s *services) trustRoot() trust.Root {
	root := trust.Root{Logs: s.trustedLogs(), NotaryRoots: s.notary.Roots()}
	stamps := s.publicURL + "/api/v1/timestamp"
	for i, chain := range s.stamper.Chains() {
		if !chain.Believed() {
			continue
		}
		// Each authority needs a URI of its own, or their stamps count once.
		uri := stamps
		if chain.End != nil {
			uri = fmt.Sprintf("%s?retired=%d", stamps, i)
		}
		root.TimestampAuthorities = append(root.TimestampAuthorities, trust.TimestampAuthority{
			URI: uri, Chain: chain.Certificates, Start: chain.Start, End: chain.End,
		})
	}
	for _, chain := range s.issuer.Chains() {
		if !chain.Believed() {
			continue
		}
		root.CertificateAuthorities = append(root.CertificateAuthorities, trust.CertificateAuthority{
			URI: s.publicURL, Chain: chain.Certificates, Start: chain.Start, End: chain.End,
		})
	}
	for _, log := range s.issuer.CTLogs() {
		if !log.Believed() {
			continue
		}
		root.CTLogs = append(root.CTLogs, trust.Log{BaseURL: s.publicURL, Public: log.Public, Start: log.Start, End: log.End})
	}
	return root
}

// publishTrust leaves a copy of the trusted root in the data folder for
// commands that work without the service.
func (d *Daemon) publishTrust(s *services) error {
	document, err := s.trustRoot().MarshalTrustedRoot()
	if err != nil {
		return fmt.Errorf("making the trusted root: %w", err)
	}
	if err := writeFile(d.path(rootFile), document, 0o644); err != nil {
		return fmt.Errorf("writing the trusted root: %w", err)
	}
	return nil
}

// rotator replaces the authorities' keys while the service runs.
type rotator struct {
	daemon   *Daemon
	services *services
}

// Rotate makes a new key for an authority and publishes it: "ca" signs
// certificates, "ct" certificate timestamps, "tsa" timestamps, "journal" the
// anchors of the audit journal, "log" the log, which goes on in a new shard. The one before stays in the trusted root with
// its end. server.ErrAuthority: there is no other.
func (r rotator) Rotate(ctx context.Context, name string) error {
	r.daemon.rotating.Lock()
	defer r.daemon.rotating.Unlock()
	if name == "log" {
		return r.rotateLog(ctx)
	}
	if err := r.replace(ctx, name); err != nil {
		return err
	}
	return r.publish(ctx)
}

// publish tells the copy in the data folder, the verification replicas and the
// TUF repository.
func (r rotator) publish(ctx context.Context) error {
	if err := r.daemon.publishTrust(r.services); err != nil {
		return err
	}
	if err := r.services.publisher.publish(ctx); err != nil {
		return err
	}
	if err := r.daemon.tuf.Refresh(ctx); err != nil {
		return fmt.Errorf("publishing the trusted root: %w", err)
	}
	return nil
}

func (r rotator) replace(ctx context.Context, name string) error {
	d, s := r.daemon, r.services
	var held generations
	var adopt func(context.Context, crypto.Signer) error
	switch name {
	case "tsa":
		held, adopt = d.stampKeys(), func(ctx context.Context, k crypto.Signer) error { return s.stamper.Rotate(ctx, nil, k) }
	case "ca":
		if chain, _, err := d.importedChain(ctx); err != nil || chain != nil {
			return errors.Join(err, fmt.Errorf("%w: the issuing certificate was imported: request and import another", server.ErrChain))
		}
		held, adopt = d.issuingKeys(), func(ctx context.Context, k crypto.Signer) error {
			return s.issuer.Rotate(ctx, authority.IssuerKeys{Issuing: k})
		}
	case "ct":
		held, adopt = d.transparency(), func(ctx context.Context, k crypto.Signer) error {
			return s.issuer.Rotate(ctx, authority.IssuerKeys{CT: k})
		}
	case "journal":
		held, adopt = d.journalKeys(), r.adoptJournalKey
	default:
		return fmt.Errorf("%w: want log, ca, ct, tsa or journal", server.ErrAuthority)
	}
	key, err := held.add(ctx)
	if err != nil {
		return err
	}
	// A crash here is finished by the next start, which opens the newest key.
	if err := adopt(ctx, key); err != nil {
		return fmt.Errorf("rotating %s: %w", name, err)
	}
	return nil
}
