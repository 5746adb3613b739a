package identity

import (
	"net/url"
	"strings"
)

// GitHubServer is where the repositories of a GitHub issuer are, without a
// slash at its end: an Enterprise Server's issuer is below its own host, as is
// that of a company's own ghe.com domain.
func GitHubServer(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return "https://github.com"
	}
	if u.Path == "/_services/token" {
		return u.Scheme + "://" + u.Host
	}
	if host, found := strings.CutPrefix(u.Host, "token.actions."); found && strings.HasSuffix(host, ".ghe.com") {
		return "https://" + host
	}
	return "https://github.com"
}
