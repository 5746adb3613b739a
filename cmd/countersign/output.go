package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"sigs.k8s.io/yaml"
)

func checkFormat(format string) error {
	switch format {
	case "table", "json", "yaml":
		return nil
	}
	return usagef("-o: want table, json or yaml")
}

// print writes the answer: v as JSON or YAML, or what asTable says of it.
func (a *app) print(v any, asTable func() string) error {
	switch a.format {
	case "json":
		encoded, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		_, err = fmt.Fprintln(a.out, string(encoded))
		return err
	case "yaml":
		encoded, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("encoding the answer: %w", err)
		}
		_, err = a.out.Write(encoded)
		return err
	}
	_, err := fmt.Fprintln(a.out, strings.TrimRight(asTable(), "\n"))
	return err
}

// grid lays rows out in columns under bold headings. Styles are dropped when
// the output is not a terminal or NO_COLOR is set.
func (a *app) grid(headings []string, rows [][]string) string {
	for _, row := range rows {
		for j := range row {
			row[j] = clean(row[j])
		}
	}
	t := table.New().Headers(headings...).Rows(rows...).
		Border(lipgloss.HiddenBorder()).
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).
		BorderHeader(false).BorderColumn(false).
		StyleFunc(func(row, _ int) lipgloss.Style {
			style := lipgloss.NewStyle().PaddingRight(2)
			if row == table.HeaderRow && a.colour() {
				return style.Bold(true)
			}
			return style
		})
	lines := strings.Split(t.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// verdict colours PASSED and FAILED on a terminal.
func (a *app) verdict(v string) string {
	if !a.colour() {
		return v
	}
	colour := lipgloss.Color("1")
	if v == "PASSED" {
		colour = lipgloss.Color("2")
	}
	return lipgloss.NewStyle().Bold(true).Foreground(colour).Render(v)
}

// colour reports whether standard output is a terminal that wants colour
// (no-color.org).
func (a *app) colour() bool {
	return a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb" && isTerminal(a.out)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// clean drops control characters: names and messages come from registries and
// other people, and a terminal obeys escape sequences.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

// short cuts a digest or key id to what a person compares.
func short(digest string) string {
	const shown = 12
	algorithm, rest, found := strings.Cut(digest, ":")
	if !found {
		algorithm, rest = "", digest
	}
	if len(rest) <= shown {
		return digest
	}
	if algorithm != "" {
		algorithm += ":"
	}
	return algorithm + rest[:shown]
}
