package mlflow

import (
	"fmt"
	"regexp"
	"strings"
)

// Condition is one equality of a filter.
type Condition struct {
	field, value string
	err          error
}

// TagIs asks for a tag's value.
func TagIs(key, value string) Condition {
	condition := Condition{field: "tags.`" + key + "`", value: value}
	if !tagKey.MatchString(key) {
		condition.err = fmt.Errorf("filter on tag %q: only letters, digits and . _ : / - can be in a key that is searched for", key)
	}
	return condition
}

// AttributeIs asks for the value of an attribute, such as name, run_id, source_path or source_run_id.
func AttributeIs(name, value string) Condition {
	condition := Condition{field: name, value: value}
	if !attributeName.MatchString(name) {
		condition.err = fmt.Errorf("filter on attribute %q: right would be a name such as run_id", name)
	}
	return condition
}

// unquotable is what a value cannot hold. MLflow's filters know no escape for a quote, and with double quotes a search of
// logged models silently finds nothing, which would make a second object.
var unquotable = regexp.MustCompile("['\"`\\\\\\x00-\\x1f\\x7f]")

var (
	tagKey        = regexp.MustCompile(`^[A-Za-z0-9._:/-]+$`)
	attributeName = regexp.MustCompile(`^[a-z_]+$`)
)

// Filter is the text that the searches take: all conditions must hold; none finds everything. The error names the
// condition that cannot be written: one whose value has quotes, backslashes or control characters.
func Filter(conditions ...Condition) (string, error) {
	texts := make([]string, len(conditions))
	for i, condition := range conditions {
		if condition.err != nil {
			return "", condition.err
		}
		if unquotable.MatchString(condition.value) {
			return "", fmt.Errorf("filter on %s = %q: quotes, backslashes and control characters cannot be searched for",
				condition.field, condition.value)
		}
		texts[i] = condition.field + " = '" + condition.value + "'"
	}
	return strings.Join(texts, " AND "), nil
}
