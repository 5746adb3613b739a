package server

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/countersign/countersign/server/admission"
)

// checkImages always answers with verified: a Kyverno policy reads nothing else
// of a service, and some policies put a default in the place of an error.
func (s *Server) checkImages(c *gin.Context) {
	answer, err := s.judgeChecked(c)
	if err != nil {
		u := s.unjudged(c.Request.Context(), err)
		answer = admission.NotChecked(u.code, u.message)
	}
	c.JSON(http.StatusOK, answer)
}

func (s *Server) judgeChecked(c *gin.Context) (admission.CheckedImages, error) {
	body, err := readAdmission(c)
	if err != nil {
		return admission.CheckedImages{}, err
	}
	check, err := admission.ParseCheckImages(body)
	if err != nil {
		return admission.CheckedImages{}, err
	}
	question, err := admissionQuestion(c, admission.References(check.Images), check.Namespace, webhookPatience)
	if err != nil {
		return admission.CheckedImages{}, err
	}
	question.Policy = check.Policy
	answer, err := s.cfg.Verifier.Verify(c.Request.Context(), question)
	if err != nil {
		return admission.CheckedImages{}, err
	}
	return admission.Checked(check, answer)
}
