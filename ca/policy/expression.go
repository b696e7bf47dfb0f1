package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/sigstack/sigstack/ca/ext"
)

// Bounds of an expression, in units of CEL's cost model where it costs: reading a variable is 1,
// comparing texts 1 for ten bytes.
const (
	maxCost     = 250_000 // of all rules for one decision
	usualSize   = 64      // bytes of a claim, or members of a list: what an expression is estimated for
	maxDepth    = 50      // of an expression
	maxNested   = 2       // comprehensions (exists, all, map, filter) inside each other
	maxRegex    = 1000    // instructions of a regular expression
	checkEvery  = 64      // rounds of a comprehension between looks at the context
	maxProblems = 5       // that are said of one expression
)

// errCost is what an expression fails with whose work is too much.
var errCost = fmt.Errorf("the expression costs more than %d for these claims", maxCost)

// An environment compiles expressions.
type environment struct{ *cel.Env }

// names are the variables of an expression and their types.
func names() map[string]*cel.Type {
	return map[string]*cel.Type{
		"identity.san":         cel.StringType,
		"identity.san_kind":    cel.StringType,
		"identity.issuer":      cel.StringType,
		"identity.issuer_type": cel.StringType,
		"identity.subject":     cel.StringType,
		"identity.email":       cel.StringType,
		"claims":               cel.MapType(cel.StringType, cel.DynType),
		"extensions":           cel.MapType(cel.StringType, cel.StringType),
		"now":                  cel.TimestampType,
	}
}

func newEnvironment() (environment, error) {
	options := []cel.EnvOption{
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ParserRecursionLimit(maxDepth),
		cel.RegexProgramSizeLimit(maxRegex),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals(),
			cel.ValidateHomogeneousAggregateLiterals(), cel.ValidateComprehensionNestingLimit(maxNested)),
	}
	for name, t := range names() {
		options = append(options, cel.Variable(name, t))
	}
	env, err := cel.NewEnv(options...)
	return environment{env}, err
}

// An expression that was compiled.
type expression struct{ program cel.Program }

// compile checks an expression and makes a program of it.
func (e environment) compile(text string) (x expression, wrong Mistakes) {
	add := func(line, column int, format string, args ...any) {
		line, column = max(line, 1), max(column, 1) // CEL has no place for some
		if len(wrong) < maxProblems {
			wrong = append(wrong, Mistake{Line: line, Column: column, Text: fmt.Sprintf("column %d: %s", column, oneLine(fmt.Sprintf(format, args...)))})
		}
	}
	if len(text) > MaxExpression { // before anything is parsed
		add(1, 1, "the expression has %d bytes, at most %d are allowed", len(text), MaxExpression)
		return x, wrong
	}
	ast, issues := e.Compile(text)
	for _, issue := range issues.Errors() {
		add(issue.Location.Line(), issue.Location.Column()+1, "%s%s", issue.Message, hint(issue.Message))
	}
	if len(wrong) > 0 {
		return x, wrong
	}
	native := ast.NativeRep()
	celast.PostOrderVisit(native.Expr(), celast.NewExprVisitor(func(n celast.Expr) {
		if problem := check(n); problem != "" {
			at := native.SourceInfo().GetStartLocation(n.ID())
			add(at.Line(), at.Column()+1, "%s", problem)
		}
	}))
	if !ast.OutputType().IsExactType(cel.BoolType) {
		add(1, 1, "the expression is of the type %s; one that is true or false is required, for example claims.ref == \"refs/heads/main\"", ast.OutputType())
	}
	if len(wrong) > 0 {
		return x, wrong
	}
	estimate, err := e.EstimateCost(ast, usualSizes{})
	if err != nil || estimate.Max > maxCost {
		add(1, 1, "the expression may cost %d with claims of %d bytes and members, at most %d is allowed; ask for less", estimate.Max, usualSize, maxCost)
		return x, wrong
	}
	program, err := e.Program(ast, cel.CostLimit(maxCost), cel.CostTracking(newWork()), cel.InterruptCheckFrequency(checkEvery))
	if err != nil {
		add(1, 1, "%v", err)
	}
	return expression{program}, wrong
}

// hint says which variables there are where one is not known.
func hint(message string) string {
	if !strings.HasPrefix(message, "undeclared reference to '") {
		return ""
	}
	var known []string
	for name := range names() {
		known = append(known, name)
	}
	slices.Sort(known)
	return "; variables are " + strings.Join(known, ", ")
}

// check refuses what would only be found out when a token comes.
func check(n celast.Expr) string {
	switch n.Kind() {
	case celast.SelectKind:
		s := n.AsSelect()
		if isExtensions(s.Operand()) {
			return unknownExtension(s.FieldName())
		}
	case celast.CallKind:
		call := n.AsCall()
		args := call.Args()
		switch call.FunctionName() {
		case "matches":
			if args[len(args)-1].Kind() != celast.LiteralKind {
				return `the pattern of matches() is not a text in quotes; claims choose no pattern`
			}
		case operators.Index:
			if key := args[1]; isExtensions(args[0]) && key.Kind() == celast.LiteralKind {
				if name, ok := key.AsLiteral().Value().(string); ok {
					return unknownExtension(name)
				}
			}
		}
	}
	return ""
}

func isExtensions(n celast.Expr) bool {
	return n.Kind() == celast.IdentKind && n.AsIdent() == "extensions"
}

func unknownExtension(name string) string {
	if slices.Contains(ext.Keys(), name) {
		return ""
	}
	return fmt.Sprintf("there is no extension %q; extensions[\"...\"] takes one of %s", name, strings.Join(ext.Keys(), ", "))
}

// usualSizes says how large variables are, for estimates. What is larger costs more than estimated, and
// is stopped by the limit then.
type usualSizes struct{}

func (usualSizes) EstimateSize(cost.AstNode) *cost.SizeEstimate {
	return &cost.SizeEstimate{Max: usualSize}
}

func (usualSizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// work says what a call has cost: by the size of what went in and came out. CEL's own count misses what
// it cannot know before, the types of claims: to it, joining two claims or comparing two objects costs as
// much as adding two numbers.
type work struct{ sizes *types.SizeCalculator }

func newWork() work {
	return work{types.NewSizeCalculator(types.SizeCalculatorMaxDepth(maxNesting + maxDepth))}
}

func (w work) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	if function == "contains" || function == "matches" {
		return nil // the product of two sizes, as CEL says
	}
	total := uint64(w.sizes.AggregateSize(result))
	for _, arg := range args {
		total += uint64(w.sizes.AggregateSize(arg))
	}
	return &total
}

// variables are the values of one decision.
type variables struct {
	Claimant
	claims     map[string]any
	now        time.Time
	extensions map[string]string // made when a rule asks for them
}

// ResolveName implements cel.Activation.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case "claims":
		return v.claims, true
	case "identity.san":
		return v.SAN().Value, true
	case "identity.san_kind":
		return v.SAN().Kind.String(), true
	case "identity.issuer":
		return v.Issuer(), true
	case "identity.issuer_type":
		return v.IssuerType(), true
	case "identity.subject":
		return v.Subject(), true
	case "identity.email":
		return v.Email(), true
	case "now":
		return v.now, true
	case "extensions":
		if v.extensions == nil {
			v.extensions = map[string]string{}
			values := v.Extensions()
			for _, key := range ext.Keys() {
				field, _ := values.Field(key)
				v.extensions[key] = *field
			}
		}
		return v.extensions, true
	}
	return nil, false
}

// Parent implements cel.Activation.
func (*variables) Parent() cel.Activation { return nil }

// eval says whether the expression is true, and what that cost. The error says in words of a
// reader of the rule why it is neither true nor false.
func (x expression) eval(ctx context.Context, vars *variables) (met bool, cost uint64, err error) {
	out, details, err := x.program.ContextEval(ctx, vars)
	if actual := details.ActualCost(); actual != nil {
		cost = *actual
	}
	if err != nil {
		return false, cost, reason(err)
	}
	return out == types.True, cost, nil
}

// reason words an error of CEL.
func reason(err error) error {
	var stopped interpreter.EvalCancelledError
	if errors.As(err, &stopped) && stopped.Cause == interpreter.CostLimitExceeded {
		return errCost
	}
	text := oneLine(err.Error())
	if name, ok := strings.CutPrefix(text, "no such key: "); ok {
		return fmt.Errorf("the claim %q is missing", name)
	}
	if strings.HasPrefix(text, "no such overload") {
		return errors.New("a claim has another type than the expression takes")
	}
	return errors.New(text)
}

// oneLine makes one line of at most some hundred bytes of a text that may repeat what a token or a
// file says.
func oneLine(s string) string {
	const most = 400
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
}
