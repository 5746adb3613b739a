package server

import (
	"net/http"
	"net/url"
	"strings"
)

// clusterPrefix begins the paths of callers that cannot send a query.
const clusterPrefix = "/clusters/"

// clusterPaths reads /clusters/NAME/v1/admission/… as /v1/admission/…?cluster=NAME:
// Kubernetes refuses a query in the URL and in the path of a webhook. A cluster
// that the query names too does not count.
func clusterPaths(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, found := strings.CutPrefix(r.URL.Path, clusterPrefix)
		name, path, more := strings.Cut(rest, "/")
		if !found || !more || name == "" || !strings.HasPrefix(path, "v1/admission/") || r.URL.RawPath != "" {
			next.ServeHTTP(w, r)
			return
		}
		query := r.URL.Query()
		query.Set("cluster", name)
		in := new(http.Request)
		*in = *r
		in.URL = new(url.URL)
		*in.URL = *r.URL
		in.URL.Path, in.URL.RawQuery = "/"+path, query.Encode()
		next.ServeHTTP(w, in)
	})
}
