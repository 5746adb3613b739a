package condition

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"

	"github.com/countersign/countersign/internal/limits"
)

// ErrExpression is wrapped by errors of Compile: the expression may not be
// loaded.
var ErrExpression = errors.New("invalid condition")

// ErrEvaluation is wrapped by errors of Holds: the condition has no answer for
// this input. Its text carries no bytes of the input.
var ErrEvaluation = errors.New("condition cannot be evaluated")

// Image is the image that is asked about.
type Image struct {
	// Reference is HOST/REPOSITORY@DIGEST.
	Reference string
	// Name is HOST/REPOSITORY; Registry and Repository are its parts.
	Name       string
	Registry   string
	Repository string
	Digest     string
}

// Input is what an expression is evaluated over.
type Input struct {
	Predicate *Document
	Statement *Document
	Image     Image
	Context   map[string]string
}

// Compiler makes conditions. It is safe for concurrent use.
type Compiler struct{ env *cel.Env }

// Condition is a compiled expression. It is safe for concurrent use.
type Condition struct{ program cel.Program }

// NewCompiler prepares the declarations that all conditions share.
func NewCompiler() (*Compiler, error) {
	env, err := cel.NewEnv(
		cel.Variable("predicate", cel.DynType),
		cel.Variable("statement", cel.DynType),
		cel.Variable("context", cel.MapType(cel.StringType, cel.StringType)),
		// Names with a point, so that a field that does not exist is refused
		// when the policy is loaded.
		cel.Variable("image.reference", cel.StringType),
		cel.Variable("image.name", cel.StringType),
		cel.Variable("image.registry", cel.StringType),
		cel.Variable("image.repository", cel.StringType),
		cel.Variable("image.digest", cel.StringType),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserRecursionLimit(limits.ConditionDepth),
		cel.ParserExpressionSizeLimit(limits.Condition),
		cel.ExpressionNodeLimit(limits.ConditionNodes),
		cel.RegexProgramSizeLimit(limits.ConditionRegex),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(),
			cel.ValidateComprehensionNestingLimit(limits.ConditionLoops)),
		ext.Strings(ext.StringsVersion(5)),
	)
	if err != nil {
		return nil, fmt.Errorf("declaring conditions: %w", err)
	}
	return &Compiler{env: env}, nil
}

// Compile reads an expression of at most limits.Condition bytes whose value is
// a boolean. Errors wrap ErrExpression and say where the fault is.
func (c *Compiler) Compile(expression string) (*Condition, error) {
	if strings.TrimSpace(expression) == "" || len(expression) > limits.Condition {
		return nil, fmt.Errorf("%w: must have 1 to %d bytes", ErrExpression, limits.Condition)
	}
	compiled, issues := c.env.Compile(expression)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrExpression, firstLine(err.Error()))
	}
	if !compiled.OutputType().IsExactType(types.BoolType) && !compiled.OutputType().IsExactType(types.DynType) {
		return nil, fmt.Errorf("%w: its value is not a boolean", ErrExpression)
	}
	if name := multiplier(compiled); name != "" {
		return nil, fmt.Errorf("%w: the function %s is not available", ErrExpression, name)
	}
	program, err := c.env.Program(compiled,
		cel.EvalOptions(cel.OptOptimize),
		cel.CostLimit(limits.ConditionCost),
		cel.CostTracking(costs{}),
		cel.InterruptCheckFrequency(limits.ConditionInterrupt),
	)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrExpression, firstLine(err.Error()))
	}
	return &Condition{program: program}, nil
}

// multiplier is a function of the expression whose result may be larger than
// all of its arguments by a factor that the document chooses. CEL charges a call
// when it is done, which is too late for these.
func multiplier(compiled *cel.Ast) (name string) {
	ast.PostOrderVisit(compiled.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		switch called := e.AsCall().FunctionName(); called {
		case "replace", "join", "format":
			name = called
		}
	}))
	return name
}

// firstLine leaves away the picture of the expression below a message.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimPrefix(line, "ERROR: <input>:")
}

// Holds evaluates the expression. With an error, which wraps ErrEvaluation, the
// condition does not hold. Ending ctx interrupts a loop.
func (c *Condition) Holds(ctx context.Context, in Input) (bool, error) {
	place := in.Context
	if place == nil {
		place = map[string]string{}
	}
	value, _, err := c.program.ContextEval(ctx, map[string]any{
		"predicate": in.Predicate.value(), "statement": in.Statement.value(), "context": place,
		"image.reference": in.Image.Reference, "image.name": in.Image.Name, "image.registry": in.Image.Registry,
		"image.repository": in.Image.Repository, "image.digest": in.Image.Digest,
	})
	if err != nil {
		return false, fmt.Errorf("%w: %s", ErrEvaluation, wordsFor(err))
	}
	answer, ok := value.(types.Bool)
	if !ok {
		return false, fmt.Errorf("%w: its value is not a boolean", ErrEvaluation)
	}
	return bool(answer), nil
}

// wordsFor says what went wrong without the library's text, which may quote the
// predicate.
func wordsFor(err error) string {
	var cancelled interpreter.EvalCancelledError
	if errors.As(err, &cancelled) {
		if cancelled.Cause == interpreter.CostLimitExceeded {
			return fmt.Sprintf("it costs more than %d units on this statement", limits.ConditionCost)
		}
		return "it was interrupted"
	}
	switch text := err.Error(); {
	case strings.Contains(text, "no such key"), strings.Contains(text, "no such attribute"), strings.Contains(text, "no such field"):
		return "it names a member that the statement or context does not have; has() asks for one"
	case strings.Contains(text, "no such overload"):
		return "it applies an operation to a value of another type"
	case strings.Contains(text, "interrupted"):
		return "it was interrupted"
	case strings.Contains(text, textInexact):
		return "it uses a whole number that is too large to be exact"
	case strings.Contains(text, textLong), strings.Contains(text, textWhole):
		return fmt.Sprintf("it uses a text, or compares an object or list, of more than %d bytes", limits.ConditionText)
	case strings.Contains(text, textCrowded):
		return fmt.Sprintf("it looks into an object or list of more than %d members", limits.ConditionMembers)
	default:
		return "it fails on this statement"
	}
}
