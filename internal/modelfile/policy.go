package modelfile

import (
	"fmt"
	"slices"
	"strings"
)

// The modes of a Policy.
const (
	PolicyStrict = "strict" // only names that are known to be needed
	PolicyDeny   = "deny"   // all names but those that are known to execute
	PolicyOff    = "off"    // everything, though it is reported
)

// Policies are the modes, the strictest first.
var Policies = []string{PolicyStrict, PolicyDeny, PolicyOff}

// Policy says which files may be loaded. The zero value is strict and allows no further names.
type Policy struct {
	// Mode is one of Policies; empty for PolicyStrict.
	Mode string
	// Allowed are names that may be used all the same, as Info.Globals has them.
	Allowed []string
	// Minimum is what a file has to pass as well; nil for nothing. Neither Mode nor Allowed can let pass what it refuses.
	Minimum *Policy
}

// Judge returns what a file told, with the verdict of the policy and the reasons that the allowed names leave.
func (p Policy) Judge(info Info) Info {
	var left []Reason
	info.Verdict = Allowed
	for _, reason := range info.Reasons {
		refused := p.refuses(reason)
		if p.Minimum != nil && p.Minimum.refuses(reason) {
			if !refused {
				reason.Problem += fmt.Sprintf("; the project lets it pass, but the least policy of this worker is %s", p.Minimum.mode())
			}
			refused = true
		}
		if refused {
			info.Verdict = Refused
		}
		if refused || !p.allows(reason) {
			left = append(left, reason)
		}
	}
	info.Reasons = left
	return info
}

// Strictest is the strictest mode that applies, whatever names are allowed.
func (p Policy) Strictest() string {
	if p.Minimum != nil && slices.Index(Policies, p.Minimum.mode()) < slices.Index(Policies, p.mode()) {
		return p.Minimum.mode()
	}
	return p.mode()
}

func (p Policy) mode() string {
	if p.Mode == "" {
		return PolicyStrict
	}
	return p.Mode
}

func (p Policy) allows(reason Reason) bool {
	return reason.Severity != Deceptive && slices.Contains(p.Allowed, reason.Global)
}

func (p Policy) refuses(reason Reason) bool {
	switch p.mode() {
	case PolicyOff:
		return false
	case PolicyDeny:
		return reason.Severity != Unknown && !p.allows(reason)
	}
	return !p.allows(reason)
}

// Check says what is wrong with the names of a policy; nil for nothing.
func (p Policy) Check() error {
	if p.Mode != "" && !slices.Contains(Policies, p.Mode) {
		return fmt.Errorf("policy %q is none of %s", p.Mode, strings.Join(Policies, ", "))
	}
	return nil
}
