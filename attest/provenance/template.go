package provenance

import (
	"errors"
	"fmt"
	"strings"

	"github.com/countersign/countersign/internal/limits"
)

// A template is text with claims in braces. A claim stands for segments of a
// path, unless it begins the template (perhaps after `git+`) and so is a whole
// URL: no value can change the host, or end the field it is in.

// parts cuts a template: literal, claim, literal, …, literal.
func parts(template string) ([]string, error) {
	if template == "" || len(template) > limits.Pattern {
		return nil, fmt.Errorf("must have 1 to %d bytes", limits.Pattern)
	}
	var out []string
	for rest := template; ; {
		literal, after, open := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return nil, errors.New("has a brace that nothing opens")
		}
		out = append(out, literal)
		if !open {
			return out, nil
		}
		claim, next, closed := strings.Cut(after, "}")
		if !closed || claim == "" || strings.Contains(claim, "{") {
			return nil, errors.New("has a brace that does not name a claim")
		}
		out = append(out, claim)
		rest = next
	}
}

func checkTemplate(template string) error {
	_, err := parts(template)
	return err
}

// checkURITemplate wants https://HOST/… with claims after the host, or one
// claim that is the whole.
func checkURITemplate(template string) error {
	cut, err := parts(template)
	if err != nil {
		return err
	}
	if isWhole(cut) {
		return nil
	}
	after, found := strings.CutPrefix(strings.TrimPrefix(cut[0], "git+"), "https://")
	host, _, slash := strings.Cut(after, "/")
	if !found || !slash && len(cut) > 1 || !isURI("https://"+host+"/") {
		return errors.New("must be https://HOST/PATH with claims only in the path, or one claim in braces")
	}
	if strings.ContainsFunc(strings.Join(cut, ""), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("must be printable ASCII")
	}
	return nil
}

func isWhole(cut []string) bool {
	return len(cut) == 3 && (cut[0] == "" || cut[0] == "git+") && cut[2] == ""
}

func checkSourceTemplate(template string) error {
	if !strings.HasPrefix(template, "git+") {
		return errors.New("must be git+https://HOST/PATH, with claims in braces in the path")
	}
	if err := checkURITemplate(template); err != nil {
		return err
	}
	if strings.ContainsAny(template, "@?#") {
		return errors.New("must name a repository without ref, query or fragment")
	}
	return nil
}

func checkURI(s string) error {
	if !isURI(s) || len(s) > limits.Pattern || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("must be an https URL")
	}
	return nil
}

// expand fills a template in. field is the rule's name, for errors; whole is
// what a claim must be that is the whole template.
func (c *claimReader) expand(field, template string, whole func(string) bool) string {
	cut, err := parts(template)
	if err != nil {
		c.refuse("provenance."+field, err.Error())
		return ""
	}
	var b strings.Builder
	for i, part := range cut {
		switch {
		case i%2 == 0:
			b.WriteString(part)
		case isWhole(cut):
			b.WriteString(c.checked(part, whole, "is not a URL that may stand there"))
		default:
			b.WriteString(c.checked(part, isPlainPath, "cannot be a part of a URL's path"))
		}
	}
	return b.String()
}

// maybe expands a template whose claims may be missing: then it is nothing. A
// template that is one claim, or has no slash, is text for the caller to check.
func (c *claimReader) maybe(field, template, otherwise string) string {
	if template == "" {
		template = otherwise
	}
	cut, err := parts(template)
	if err != nil {
		c.refuse("provenance."+field, err.Error())
		return ""
	}
	var b strings.Builder
	for i, part := range cut {
		if i%2 == 0 {
			b.WriteString(part)
			continue
		}
		value := c.may(part)
		if value == "" {
			return ""
		}
		if len(cut) > 3 || strings.Contains(cut[0], "://") {
			value = c.checked(part, isPlainPath, "cannot be a part of a URL's path")
		}
		b.WriteString(value)
	}
	return b.String()
}

func isPlainPath(s string) bool {
	for _, segment := range strings.Split(s, "/") {
		if !isSegment(segment) {
			return false
		}
	}
	return true
}

// isPlainURL is https://HOST/PATH of plain segments, perhaps with a port and
// with `.git`.
func isPlainURL(s string) bool {
	rest, found := strings.CutPrefix(s, "https://")
	host, path, slash := strings.Cut(rest, "/")
	name, port, hasPort := strings.Cut(host, ":")
	if hasPort && (port == "" || strings.Trim(port, "0123456789") != "") {
		return false
	}
	return found && slash && isSegment(name) && isPlainPath(path)
}
