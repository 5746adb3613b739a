package server

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/server/admission"
)

func (s *Server) validateReview(c *gin.Context) { s.answerReview(c, false) }

func (s *Server) mutateReview(c *gin.Context) { s.answerReview(c, true) }

// answerReview always answers an AdmissionReview. Whatever is not understood is
// denied: an HTTP error would leave the decision to the webhook's
// failurePolicy.
func (s *Server) answerReview(c *gin.Context, mutating bool) {
	review, response, err := s.review(c, mutating)
	if err != nil {
		u := s.unjudged(c.Request.Context(), err)
		response = admission.Deny(review.UID, u.status, u.code, u.message)
	}
	c.JSON(http.StatusOK, admission.Wrap(response))
}

// review judges the images that a review asks about, all in one question, so
// that each tag is resolved once and the patch names what was judged (G3).
func (s *Server) review(c *gin.Context, mutating bool) (admission.Review, admission.Response, error) {
	body, err := readAdmission(c)
	if err != nil {
		return admission.Review{}, admission.Response{}, err
	}
	review, err := admission.ParseReview(body)
	if err != nil {
		return review, admission.Response{}, err
	}
	q, err := s.cfg.Admission.Ask(review)
	if err != nil {
		return review, admission.Response{}, err
	}
	pin := false
	if mutating {
		if pin, err = s.cfg.Admission.Pins(review.Kind, c.Query("pin")); err != nil {
			return review, admission.Response{}, err
		}
	}
	if q.Pass != "" {
		return review, s.cfg.Admission.Passed(review.UID, q), nil
	}
	question, err := admissionQuestion(c, admission.References(q.Images), review.Namespace, webhookPatience)
	if err != nil {
		return review, admission.Response{}, err
	}
	question.DryRun = review.DryRun
	answer, err := s.verifyAsPulled(c.Request.Context(), review.Namespace, c.Query("cluster"), review.Object, question)
	if err != nil {
		return review, admission.Response{}, err
	}
	response, err := s.cfg.Admission.Judged(review, q, answer, pin)
	return review, response, err
}
