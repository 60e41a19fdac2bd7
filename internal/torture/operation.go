package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"strconv"
)

// operation returns the edits that change a marked statement. The changed statement still uses the
// same names. Otherwise the compiler could report an unused variable or import.
type operation func(s *statement) ([]edit, error)

// condition makes the statement's condition always true or always false. The condition belongs to
// an if, a for or a case, or is the only boolean expression that is assigned or returned. The
// initialization of an if still runs.
func condition(always bool) operation {
	return func(s *statement) ([]edit, error) {
		c, err := s.condition()
		if err != nil {
			return nil, err
		}
		return []edit{s.replace(c, constant(always, s.text(c)))}, nil
	}
}

// terms makes single terms of a condition always true or always false. The terms are joined with &&
// or ||. They are numbered from 0 in the order of the source.
func terms(always bool, numbers ...int) operation {
	return func(s *statement) ([]edit, error) {
		c, err := s.condition()
		if err != nil {
			return nil, err
		}
		all := termsOf(c)
		var edits []edit
		for _, n := range numbers {
			if n >= len(all) {
				return nil, fmt.Errorf("the condition has %d terms and no term number %d", len(all), n)
			}
			edits = append(edits, s.replace(all[n], constant(always, s.text(all[n]))))
		}
		return edits, nil
	}
}

func constant(always bool, text string) string {
	if always {
		return "(true || (" + text + "))"
	}
	return "(false && (" + text + "))"
}

func termsOf(e ast.Expr) []ast.Expr {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return termsOf(e.X)
	case *ast.BinaryExpr:
		if e.Op == token.LAND || e.Op == token.LOR {
			return append(termsOf(e.X), termsOf(e.Y)...)
		}
	}
	return []ast.Expr{e}
}

func (s *statement) condition() (ast.Expr, error) {
	var candidates []ast.Expr
	switch n := s.node.(type) {
	case *ast.IfStmt:
		return n.Cond, nil
	case *ast.ForStmt:
		if n.Cond != nil {
			return n.Cond, nil
		}
	case *ast.CaseClause:
		if len(n.List) == 1 {
			return n.List[0], nil
		}
	case *ast.AssignStmt:
		candidates = n.Rhs
	case *ast.ReturnStmt:
		candidates = n.Results
	}
	var found []ast.Expr
	for _, c := range candidates {
		if isBoolean(c) {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("the statement has %d conditions, and must have one", len(found))
	}
	return found[0], nil
}

// isBoolean reports whether an expression has an operator with a boolean result.
func isBoolean(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return e.Op == token.LAND || e.Op == token.LOR || e.Op.Precedence() == token.EQL.Precedence()
	case *ast.UnaryExpr:
		return e.Op == token.NOT
	}
	return false
}

// remove stops the statement from running. The statement must not declare a name that later
// statements use.
func remove(s *statement) ([]edit, error) {
	return []edit{s.insertBefore(s.node, "if false { "), s.insertAfter(s.node, " }")}, nil
}

// addElse adds an else branch with this text to an if without an else.
func addElse(text string) operation {
	return func(s *statement) ([]edit, error) {
		n, ok := s.node.(*ast.IfStmt)
		if !ok || n.Else != nil {
			return nil, errors.New("the statement must be an if without an else")
		}
		return []edit{s.insertAfter(n, " else { "+text+" }")}, nil
	}
}

// moveDown moves the statement to after the given number of following statements.
func moveDown(following int) operation {
	return func(s *statement) ([]edit, error) {
		if len(s.next) < following {
			return nil, fmt.Errorf("%d statements follow, but %d are needed", len(s.next), following)
		}
		return []edit{s.replace(s.node, ""), s.insertAfter(s.next[following-1], "\n"+s.text(s.node)+"\n")}, nil
	}
}

// swapCalls exchanges the first call of the statement and the first call of the next statement.
func swapCalls(s *statement) ([]edit, error) {
	if len(s.next) == 0 {
		return nil, errors.New("no statement follows")
	}
	here, next := callsIn(s.node), callsIn(s.next[0])
	if len(here) == 0 || len(next) == 0 {
		return nil, errors.New("both statements must have a call")
	}
	return []edit{s.replace(here[0], s.text(next[0])), s.replace(next[0], s.text(here[0]))}, nil
}

// call replaces a call in the statement's head, that is, outside its blocks. Calls are numbered
// from 0 in the order of the source. An outer call comes before the calls in its arguments. In the
// text, $0 stands for the function, $1 for the first argument, and so on. If the call is a method
// call, $X stands for the receiver.
func call(number int, text string) operation {
	return func(s *statement) ([]edit, error) {
		c, err := s.call(number)
		if err != nil {
			return nil, err
		}
		replaced, err := s.fill(text, c)
		return []edit{s.replace(c, replaced)}, err
	}
}

func (s *statement) call(number int) (*ast.CallExpr, error) {
	all := callsIn(s.node)
	if number >= len(all) {
		return nil, fmt.Errorf("the statement has %d calls and no call number %d", len(all), number)
	}
	return all[number], nil
}

var placeholder = regexp.MustCompile(`\$[0-9A-Z]`)

// fill replaces the placeholders in the text by the parts of a call.
func (s *statement) fill(text string, c *ast.CallExpr) (string, error) {
	values := map[string]string{"$0": s.text(c.Fun)}
	if method, ok := c.Fun.(*ast.SelectorExpr); ok {
		values["$X"] = s.text(method.X)
	}
	for i, argument := range c.Args {
		values["$"+strconv.Itoa(i+1)] = s.text(argument)
	}
	var err error
	filled := placeholder.ReplaceAllStringFunc(text, func(name string) string {
		value, ok := values[name]
		if !ok {
			err = fmt.Errorf("the call has no part for the placeholder %s in %q", name, text)
		}
		return value
	})
	return filled, err
}

// callsIn returns the calls in a statement's head.
func callsIn(n ast.Node) (calls []*ast.CallExpr) {
	ast.Inspect(n, func(inner ast.Node) bool {
		switch inner := inner.(type) {
		case *ast.BlockStmt:
			return false
		case *ast.CallExpr:
			calls = append(calls, inner)
		}
		return true
	})
	return calls
}

// truncateList shortens the list that the statement ranges over or assigns to at most this number
// of items.
func truncateList(items int) operation {
	return func(s *statement) ([]edit, error) {
		var list ast.Expr
		switch n := s.node.(type) {
		case *ast.RangeStmt:
			list = n.X
		case *ast.AssignStmt:
			list = n.Rhs[0]
		default:
			return nil, errors.New("the statement must range over a list or assign one")
		}
		text := s.text(list)
		return []edit{s.replace(list, fmt.Sprintf("(%s)[:min(%d, len(%s))]", text, items, text))}, nil
	}
}

// setValue replaces the value that the statement assigns, or the value of a constant.
func setValue(text string) operation {
	return func(s *statement) ([]edit, error) {
		var values []ast.Expr
		switch n := s.node.(type) {
		case *ast.ValueSpec:
			values = n.Values
		case *ast.AssignStmt:
			values = n.Rhs
		}
		if len(values) != 1 {
			return nil, fmt.Errorf("the statement has %d values but must have one", len(values))
		}
		return []edit{s.replace(values[0], text)}, nil
	}
}

// resetOnReturn sets the assigned variable to nil when the function returns.
func resetOnReturn(s *statement) ([]edit, error) {
	n, ok := s.node.(*ast.AssignStmt)
	if !ok || len(n.Lhs) != 1 {
		return nil, errors.New("the statement must assign one value")
	}
	return []edit{s.insertAfter(n, "; defer func() { "+s.text(n.Lhs[0])+" = nil }()")}, nil
}

// before runs the statements in text before the marked statement. The placeholders stand for parts
// of the marked statement's first call, as in call.
func before(text string) operation {
	return func(s *statement) ([]edit, error) {
		c, err := s.call(0)
		if err != nil {
			return nil, err
		}
		filled, err := s.fill(text, c)
		return []edit{s.insertBefore(s.node, filled+"; ")}, err
	}
}
