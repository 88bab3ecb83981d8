package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mutant is one file with one small fault.
type mutant struct {
	file   string
	source []byte
	number int    // of the line
	id     string // what survivors.txt calls it
}

// removed is what stands for a statement that was taken away.
const removed = "{}"

// swaps are the operators and what becomes of each.
var swaps = map[token.Token][]token.Token{
	token.EQL: {token.NEQ}, token.NEQ: {token.EQL},
	token.LSS: {token.LEQ, token.GEQ}, token.LEQ: {token.LSS, token.GTR},
	token.GTR: {token.GEQ, token.LEQ}, token.GEQ: {token.GTR, token.LSS},
	token.LAND: {token.LOR}, token.LOR: {token.LAND},
	token.ADD: {token.SUB}, token.SUB: {token.ADD}, token.MUL: {token.QUO}, token.QUO: {token.MUL},
	token.SHL: {token.SHR}, token.SHR: {token.SHL},
}

// mutantsOf returns all mutants of a file.
func mutantsOf(file string) ([]mutant, error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, file, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var mutants []mutant
	function := ""
	replace := func(from, to token.Pos, with string) {
		begin, end := fset.Position(from), fset.Position(to)
		text := string(source[:begin.Offset]) + with + string(source[end.Offset:])
		line, _, _ := strings.Cut(text[strings.LastIndexByte(text[:begin.Offset], '\n')+1:], "\n")
		if with == removed {
			line, _, _ = strings.Cut("without "+string(source[begin.Offset:end.Offset]), "\n")
		}
		if with == `""` {
			line += " // was " + string(source[begin.Offset:end.Offset])
		}
		id := filepath.Base(filepath.Dir(file)) + "/" + filepath.Base(file) + function + ": " + strings.TrimSpace(line)
		mutants = append(mutants, mutant{file, []byte(text), begin.Line, id})
	}
	text := func(n ast.Node) string {
		return string(source[fset.Position(n.Pos()).Offset:fset.Position(n.End()).Offset])
	}
	negate := func(cond ast.Expr) {
		if _, ok := cond.(*ast.BinaryExpr); !ok && cond != nil { // whose operator is swapped
			replace(cond.Pos(), cond.End(), "!("+text(cond)+")")
		}
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.GenDecl:
			if fset.Position(n.Pos()).Column == 1 {
				function = "" // at package level again
			}
		case *ast.FuncDecl:
			function = " " + n.Name.Name
		case *ast.BinaryExpr:
			for _, op := range swaps[n.Op] {
				replace(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), op.String())
			}
			if n.Op == token.LAND || n.Op == token.LOR {
				negate(n.X)
				negate(n.Y)
			}
		case *ast.IfStmt:
			negate(n.Cond)
		case *ast.ForStmt:
			if n.Cond != nil {
				negate(n.Cond)
			}
		case *ast.BasicLit:
			switch {
			case n.Kind == token.INT:
				replace(n.Pos(), n.End(), "("+n.Value+"+1)")
			case n.Kind == token.STRING && n.Value == `""`:
				replace(n.Pos(), n.End(), `"mutant"`)
			case n.Kind == token.STRING && !strings.Contains(n.Value, `:"`): // which is a struct's tag
				replace(n.Pos(), n.End(), `""`)
			case n.Kind == token.CHAR:
				if c, err := strconv.Unquote(n.Value); err == nil {
					replace(n.Pos(), n.End(), strconv.QuoteRune([]rune(c)[0]+1))
				}
			}
		case *ast.ReturnStmt:
			for i, r := range n.Results {
				id, ok := r.(*ast.Ident)
				switch {
				case ok && id.Name == "true":
					replace(r.Pos(), r.End(), "false")
				case ok && id.Name == "false":
					replace(r.Pos(), r.End(), "true")
				case ok && i == len(n.Results)-1 && strings.HasSuffix(strings.ToLower(id.Name), "err"):
					replace(r.Pos(), r.End(), "nil")
				}
			}
		case *ast.CallExpr:
			for _, arg := range n.Args {
				if id, ok := arg.(*ast.Ident); ok && (id.Name == "true" || id.Name == "false") {
					replace(arg.Pos(), arg.End(), "!"+id.Name)
				}
			}
		case *ast.BlockStmt:
			remove(n.List, replace)
		case *ast.CaseClause:
			remove(n.Body, replace)
			for _, cond := range n.List {
				if _, ok := cond.(*ast.CallExpr); ok {
					negate(cond)
				}
			}
		case *ast.CommClause:
			remove(n.Body, replace)
		}
		return true
	})
	return mutants, nil
}

// remove takes statements away, each alone: those that only do something, and
// those that leave early. A declaration that goes would only not compile.
func remove(list []ast.Stmt, replace func(from, to token.Pos, with string)) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.AssignStmt:
			if s.Tok != token.DEFINE {
				replace(s.Pos(), s.End(), removed)
			}
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt, *ast.BranchStmt, *ast.SendStmt, *ast.ReturnStmt, *ast.IfStmt:
			replace(s.Pos(), s.End(), removed)
		}
	}
}
