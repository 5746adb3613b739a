package testauthority

import "crypto/sha256"

// treeHash is MTH of RFC 6962 section 2.1.
func treeHash(leaves [][]byte) []byte {
	switch n := len(leaves); n {
	case 0:
		empty := sha256.Sum256(nil)
		return empty[:]
	case 1:
		return hash(0, leaves[0])
	default:
		k := split(n)
		return hash(1, treeHash(leaves[:k]), treeHash(leaves[k:]))
	}
}

// auditPath is PATH of RFC 6962 section 2.1.1.
func auditPath(m int, leaves [][]byte) [][]byte {
	if len(leaves) == 1 {
		return nil
	}
	k := split(len(leaves))
	if m < k {
		return append(auditPath(m, leaves[:k]), treeHash(leaves[k:]))
	}
	return append(auditPath(m-k, leaves[k:]), treeHash(leaves[:k]))
}

// split is the largest power of two smaller than n.
func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func hash(prefix byte, parts ...[]byte) []byte {
	h := sha256.New()
	h.Write([]byte{prefix})
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
