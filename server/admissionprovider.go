package server

import (
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/internal/limits"
	"github.com/countersign/countersign/server/admission"
	"github.com/countersign/countersign/verifier"
)

func (s *Server) gatekeeperValidate(c *gin.Context) {
	s.provide(c, gatekeeperPatience, admission.ValueItem)
}

func (s *Server) gatekeeperMutate(c *gin.Context) { s.provide(c, mutationPatience, admission.PinItem) }

func (s *Server) ratifyV1Verify(c *gin.Context) {
	s.provide(c, gatekeeperPatience, admission.RatifyV1Items(requestOf(c.Request.Context()).id, s.cfg.Clock.Now()))
}

func (s *Server) ratifyV2Verify(c *gin.Context) {
	s.provide(c, gatekeeperPatience, admission.RatifyV2Item)
}

// provide always answers a ProviderResponse; Gatekeeper reads it whatever the
// status. What was not judged has a systemError, which nobody remembers.
func (s *Server) provide(c *gin.Context, patience time.Duration, render admission.Render) {
	keys, results, err := s.judgeKeys(c, patience)
	if err != nil {
		u := s.unjudged(c.Request.Context(), err)
		c.JSON(u.status, admission.NotProvided(u.code, u.message))
		return
	}
	c.JSON(http.StatusOK, admission.Provided(keys, results, render))
}

// judgeKeys asks one question for each namespace among the keys.
func (s *Server) judgeKeys(c *gin.Context, patience time.Duration) ([]admission.Key, map[string]verifier.Result, error) {
	body, err := readAdmission(c)
	if err != nil {
		return nil, nil, err
	}
	keys, err := admission.ParseProviderRequest(body)
	if err != nil {
		return nil, nil, err
	}
	results := make(map[string]verifier.Result, len(keys))
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(c.Request.Context())
	group.SetLimit(limits.VerifyParallel)
	for _, of := range admission.Groups(keys) {
		images := make([]string, len(of))
		for i, k := range of {
			images[i] = k.Reference
		}
		question, err := admissionQuestion(c, images, of[0].Namespace, patience)
		if err != nil {
			return nil, nil, err
		}
		group.Go(func() error {
			answer, err := s.cfg.Verifier.Verify(ctx, question)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for i, k := range of {
				results[k.Text] = answer.Results[i]
			}
			return nil
		})
	}
	return keys, results, group.Wait()
}
