package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/countersign/countersign/tlog/sequencer"
)

// refusing is a log that takes nothing, for one reason.
type refusing struct {
	Log
	err error
}

func (r refusing) Append(context.Context, []byte) (*rekorpb.TransparencyLogEntry, error) {
	return nil, r.err
}

// TestLogPushback: a log that takes nothing just now is told from a bad request,
// and when to come again is said.
func TestLogPushback(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString
	request := fmt.Sprintf(`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		text(digest[:]), text(signature), text(der))
	for _, cause := range []error{sequencer.ErrPushback, sequencer.ErrStopped, sequencer.ErrClosed} {
		s := bare(t, nil)
		s.cfg.Log = refusing{err: fmt.Errorf("appending: %w", cause)}
		s.engine.Use(s.identify)
		s.engine.POST("/", s.addLogEntry)
		answer := httptest.NewRecorder()
		s.engine.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(request)))
		if answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" || !strings.Contains(answer.Body.String(), "log_unavailable") {
			t.Errorf("%v: %d %v %s", cause, answer.Code, answer.Header(), answer.Body)
		}
	}
}
