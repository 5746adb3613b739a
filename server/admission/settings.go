package admission

import (
	"errors"
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/internal/strictjson"
)

// PinMode says whose tags the mutating webhook replaces by digests.
type PinMode string

// The modes. PinPods leaves the objects alone that a GitOps controller
// compares with its sources, and pins what the node runs.
const (
	PinAlways PinMode = "always"
	PinPods   PinMode = "pods"
	PinNever  PinMode = "never"
)

// TagMode says what becomes of a Pod that names an image by tag and is not
// pinned: the node may pull something else than what was judged.
type TagMode string

// The modes.
const (
	TagsWarn  TagMode = "warn"
	TagsAllow TagMode = "allow"
	TagsDeny  TagMode = "deny"
)

// HardeningMode says whether pods are looked at for how they run.
type HardeningMode string

// The modes.
const (
	HardeningOff  HardeningMode = "off"
	HardeningWarn HardeningMode = "warn"
)

// Settings are an operator's choices; the zero value is safe.
type Settings struct {
	// Resources are custom resources that hold images.
	Resources []Resource
	// Pin is PinAlways when empty.
	Pin PinMode
	// Tags is TagsWarn when empty.
	Tags TagMode
	// Hardening is HardeningOff when empty.
	Hardening HardeningMode
	// JudgeUnchanged has every image of an update judged, also those that the old
	// object has.
	JudgeUnchanged bool
}

// Rules are validated Settings. They are safe for concurrent use.
type Rules struct {
	kinds    kinds
	settings Settings
}

// New validates settings.
func New(s Settings) (*Rules, error) {
	if s.Pin == "" {
		s.Pin = PinAlways
	}
	if s.Tags == "" {
		s.Tags = TagsWarn
	}
	if s.Hardening == "" {
		s.Hardening = HardeningOff
	}
	switch {
	case s.Pin.rank() < 0:
		return nil, fault("pin", "want always, pods or never")
	case s.Tags != TagsWarn && s.Tags != TagsAllow && s.Tags != TagsDeny:
		return nil, fault("tags", "want warn, allow or deny")
	case s.Hardening != HardeningOff && s.Hardening != HardeningWarn:
		return nil, fault("hardening", "want off or warn")
	}
	table, err := newKinds(s.Resources)
	if err != nil {
		return nil, err
	}
	return &Rules{kinds: table, settings: s}, nil
}

// rank orders the modes by how much they pin; an unknown one is negative.
func (m PinMode) rank() int {
	switch m {
	case PinNever:
		return 0
	case PinPods:
		return 1
	case PinAlways:
		return 2
	}
	return -1
}

// Pins reports whether a mutating review of a kind pins. The asked mode is the
// webhook's own (?pin=), which can only pin less than the setting: empty or true
// is the setting, false is never.
func (r *Rules) Pins(kind Kind, asked string) (bool, error) {
	mode := PinMode(asked)
	switch asked {
	case "", "true":
		mode = r.settings.Pin
	case "false":
		mode = PinNever
	}
	if mode.rank() < 0 {
		return false, fault("query.pin", "want true, false, always, pods or never")
	}
	if r.settings.Pin.rank() < mode.rank() {
		mode = r.settings.Pin
	}
	return mode == PinAlways || mode == PinPods && kind.IsPod(), nil
}

// ParseResources reads a YAML or JSON file `resources: [{group, version, kind,
// podSpec, paths, optional}]`.
func ParseResources(raw []byte) ([]Resource, error) {
	if len(raw) > limits.AdmissionFile {
		return nil, fault("resources", fmt.Sprintf("a file has at most %d bytes", limits.AdmissionFile))
	}
	document, err := yaml.YAMLToJSONStrict(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var wire struct {
		Resources []Resource `json:"resources"`
	}
	if err := errors.Join(strictjson.NoNull(document), strictjson.Unmarshal(document, &wire)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(wire.Resources) == 0 {
		return nil, fault("resources", "want a list of at least one resource")
	}
	_, err = newKinds(wire.Resources)
	return wire.Resources, err
}
