// Command attacktable reads what `go test -json` says of the attack suite and
// prints how many negative cases each known attack has in each form of a
// signature. It is the judge of `make attacks`.
//
// A negative case is a test that passed, whose name begins with a row of
// docs/attacks.md (`B1 entry of another artifact`, TestB2TransplantUnderEveryRoot),
// and that marked a verdict FAILED with testing.T.Attr; its control is a verdict
// PASSED that it marked itself, or that a test beside it under the same parent
// did. The attribute "format" names the form; without one the form does not
// matter to the case. A test counts once in the total, however many verdicts it
// marks and rows it names.
//
// It refuses, by its exit code: a failing test, a case without a control or
// without a reason code, fewer cases than the floor, and a place in the table of
// required cells (rows.go) that no case fills.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	floor := flag.Int("floor", 200, "the fewest negative cases")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *floor); err != nil {
		fmt.Fprintln(os.Stderr, "attacktable:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, floor int) error {
	s, err := read(in)
	if err != nil {
		return err
	}
	t := s.table()
	t.print(out)
	faults := append(s.faults, t.faults...)
	if t.total < floor {
		faults = append(faults, fmt.Sprintf("%d negative cases are fewer than %d", t.total, floor))
	}
	faults = append(faults, t.missing()...)
	if len(faults) > 0 {
		return fmt.Errorf("%s", strings.Join(faults, "\n"))
	}
	return nil
}

// event is a line of `go test -json`.
type event struct {
	Action, Package, Test, Output, Key, Value string
}

// seen is what one test said.
type seen struct {
	format         string
	failed, passed int
	bare           bool // a verdict FAILED without a code
	ok             bool
}

// suite is all that was said, by package and test.
type suite struct {
	tests  map[string]*seen
	faults []string
}

func read(in io.Reader) (*suite, error) {
	s := &suite{tests: map[string]*seen{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("not the output of go test -json: %.100s", lines.Text())
		}
		s.note(e)
	}
	return s, lines.Err()
}

func (s *suite) note(e event) {
	if e.Action == "fail" || e.Action == "build-fail" {
		s.faults = append(s.faults, fmt.Sprintf("failed: %s %s", e.Package, e.Test))
	}
	if e.Test == "" {
		return
	}
	name := e.Package + " " + e.Test
	if s.tests[name] == nil {
		s.tests[name] = &seen{}
	}
	t := s.tests[name]
	switch {
	case e.Action == "pass":
		t.ok = true
	case e.Action == "attr" && e.Key == "format":
		t.format = e.Value
	case e.Action == "attr" && e.Key == "verdict" && e.Value == "PASSED":
		t.passed++
	case e.Action == "attr" && e.Key == "verdict":
		t.failed++
		t.bare = t.bare || !strings.HasPrefix(e.Value, "FAILED ")
	}
}

// table counts cases by row and form.
type table struct {
	cells  map[string]map[string]int
	total  int
	faults []string
}

func (s *suite) table() *table {
	t := &table{cells: map[string]map[string]int{}}
	for name, test := range s.tests {
		rows := rowsOf(name)
		if !test.ok || test.failed == 0 || len(rows) == 0 {
			continue
		}
		if test.bare {
			t.faults = append(t.faults, "a refusal without a reason code: "+name)
		}
		if test.passed == 0 && !s.controlled(parent(name)) {
			t.faults = append(t.faults, "no positive control: "+name)
			continue
		}
		t.total++
		for _, row := range rows {
			if t.cells[row] == nil {
				t.cells[row] = map[string]int{}
			}
			t.cells[row][s.formatOf(name)]++
		}
	}
	slices.Sort(t.faults)
	return t
}

// parent is the test that a test is part of, or empty.
func parent(name string) string {
	if i := strings.LastIndex(name, "/"); i >= 0 {
		return name[:i]
	}
	return ""
}

// controlled reports whether anything under a test passed.
func (s *suite) controlled(under string) bool {
	if under == "" {
		return false
	}
	for name, t := range s.tests {
		if t.passed > 0 && (name == under || strings.HasPrefix(name, under+"/")) {
			return true
		}
	}
	return false
}

func (s *suite) formatOf(name string) string {
	for ; name != ""; name = parent(name) {
		if t := s.tests[name]; t != nil && t.format != "" {
			return t.format
		}
	}
	return anyForm
}

var (
	inPart = regexp.MustCompile(`^[A-K][0-9]+(?:_[A-K][0-9]+)*(?:_|$)`)
	inTest = regexp.MustCompile(`^Test((?:[A-K][0-9]+)+)(?:[A-Z]|$)`)
	row    = regexp.MustCompile(`[A-K][0-9]+`)
)

// rowsOf are the rows that a test's name begins with, or those of the test that
// it is part of.
func rowsOf(name string) []string {
	_, name, _ = strings.Cut(name, " ")
	parts := strings.Split(name, "/")
	for _, part := range slices.Backward(parts[1:]) {
		if found := inPart.FindString(part); found != "" {
			return row.FindAllString(found, -1)
		}
	}
	if found := inTest.FindStringSubmatch(parts[0]); found != nil {
		return row.FindAllString(found[1], -1)
	}
	return nil
}

func (t *table) print(out io.Writer) {
	fmt.Fprintf(out, "%-5s", "")
	for _, f := range forms() {
		fmt.Fprintf(out, "%12s", f)
	}
	fmt.Fprintf(out, "%12s\n", anyForm)
	for _, r := range rows() {
		fmt.Fprintf(out, "%-5s", r.id)
		for _, f := range append(forms(), anyForm) {
			text := fmt.Sprint(t.cells[r.id][f])
			if text == "0" && !slices.Contains(r.forms, f) {
				text = "."
			}
			fmt.Fprintf(out, "%12s", text)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%d negative cases, each with its control; a case may be of several rows\n", t.total)
}

// missing are the required cells without a case.
func (t *table) missing() (out []string) {
	for _, r := range rows() {
		n := 0
		for _, count := range t.cells[r.id] {
			n += count
		}
		if n == 0 {
			out = append(out, fmt.Sprintf("row %s has no case", r.id))
			continue
		}
		for _, f := range r.forms {
			if t.cells[r.id][f] == 0 {
				out = append(out, fmt.Sprintf("row %s has no case in the form %s", r.id, f))
			}
		}
	}
	return out
}
