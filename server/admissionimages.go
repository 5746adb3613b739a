package server

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/server/admission"
)

// imageReview always answers an ImageReview: the API server takes an HTTP error
// for defaultAllow's case.
func (s *Server) imageReview(c *gin.Context) {
	answer, err := s.judgeImages(c)
	if err != nil {
		u := s.unjudged(c.Request.Context(), err)
		answer = admission.DenyImages(u.code, u.message)
	}
	c.JSON(http.StatusOK, answer)
}

func (s *Server) judgeImages(c *gin.Context) (admission.ImageReviewAnswer, error) {
	body, err := readAdmission(c)
	if err != nil {
		return admission.ImageReviewAnswer{}, err
	}
	review, err := admission.ParseImageReview(body)
	if err != nil {
		return admission.ImageReviewAnswer{}, err
	}
	question, err := admissionQuestion(c, review.Images, review.Namespace, webhookPatience)
	if err != nil {
		return admission.ImageReviewAnswer{}, err
	}
	answer, err := s.cfg.Verifier.Verify(c.Request.Context(), question)
	if err != nil {
		return admission.ImageReviewAnswer{}, err
	}
	return admission.JudgedImages(answer), nil
}
