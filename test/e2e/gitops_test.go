package e2e

import (
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

var gitOps = scenario{
	name:   "bad roll-out managed by GitOps",
	proves: "nothing is written, as the next sync would put it back: the roll-back is only proposed",
	homes:  1,
	play: func(s *stage) {
		s.deploy("news", "shop/news:1", 2, annotated("argocd.argoproj.io/tracking-id", "shop:apps/Deployment:news"))
		s.breaks(s.rollOut("deployments", "news", `{"name":"app","image":"shop/news:broken"}`))
		r := s.ends(90*time.Second, end{heal.Rollback, "Deployment", heal.Rejected, "ManagedByGitOps", nil})
		if !strings.Contains(r.Message, "argocd.argoproj.io/tracking-id") {
			s.Errorf("message %q does not say how that is known", r.Message)
		}
		if err := s.rollOut("deployments", "news", `{"name":"app","image":"shop/news:1"}`)(); err != nil { // a person corrects it in Git
			s.Fatal(err)
		}
		s.image("news", "shop/news:1", 2)
		s.stays()
	},
}
