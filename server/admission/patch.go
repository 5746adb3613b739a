package admission

import "strings"

// Operation is one of a JSON patch (RFC 6902).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value string `json:"value"`
}

// Pinned is a reference with the digest that was judged; its tag stays, for
// people. A reference that names a digest is returned as it is.
func Pinned(reference, digest string) string {
	if strings.Contains(reference, "@") {
		return reference
	}
	return reference + "@" + digest
}

// Patch pins each image that is named by tag to its digest, given by
// reference, and touches nothing else. An image without a digest is refused:
// half a patch would let in what was not judged.
func Patch(images []Image, digests map[string]string) ([]Operation, error) {
	var patch []Operation
	for _, i := range images {
		if i.ByDigest() {
			continue
		}
		digest := digests[i.Reference]
		if digest == "" {
			return nil, fault("object"+i.Pointer, "has no digest to be pinned to")
		}
		patch = append(patch, Operation{Op: "replace", Path: i.Pointer, Value: Pinned(i.Reference, digest)})
	}
	return patch, nil
}
