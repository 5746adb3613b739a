package condition

import (
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/countersign/countersign/internal/limits"
)

// costs charges every call for what it reads and makes. CEL's own model does
// so only where the types are known when the expression is compiled, and of a
// JSON document none is.
type costs struct{}

// CallCost is one unit, one for ten bytes of the arguments and the result, and
// for a regular expression that times its length in fours.
func (costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	if cheap(function, args) {
		one := uint64(1)
		return &one
	}
	read := uint64(0)
	for _, arg := range args {
		read += weight(arg, 0)
	}
	if pattern, ok := last(args).(types.String); ok && function == "matches" {
		read *= uint64(len(pattern)/4 + 1)
	}
	cost := 1 + (read+weight(result, 0))/10
	return &cost
}

// cheap are calls that look at no more than the index of a document.
func cheap(function string, args []ref.Val) bool {
	switch function {
	case operators.In:
		_, ok := last(args).(*object)
		return ok
	case overloads.Size:
		switch last(args).(type) {
		case *object, *list:
			return true
		}
	}
	return false
}

func last(args []ref.Val) ref.Val {
	if len(args) == 0 {
		return nil
	}
	return args[len(args)-1]
}

// enough is a weight that exceeds every budget: nothing is weighed beyond it.
const enough = limits.ConditionCost * 10

// weight is about the bytes of a value. Parts of a document have those of their
// JSON, whatever of it is looked at.
func weight(v ref.Val, depth int) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v))
	case types.Bytes:
		return uint64(len(v))
	case *object:
		return uint64(len(v.raw))
	case *list:
		return uint64(len(v.raw))
	case traits.Lister:
		return weighMembers(v, nil, depth)
	case traits.Mapper:
		return weighMembers(v, v, depth)
	default:
		return 1
	}
}

// weighMembers adds up the members of a value that an expression made.
func weighMembers(v traits.Iterable, m traits.Mapper, depth int) uint64 {
	if depth > limits.ConditionDepth {
		return enough
	}
	sum := uint64(1)
	for i := v.Iterator(); i.HasNext() == types.True && sum < enough; {
		member := i.Next()
		sum += weight(member, depth+1)
		if m != nil {
			sum += weight(m.Get(member), depth+1)
		}
	}
	return sum
}
