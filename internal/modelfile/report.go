package modelfile

// Bounds of what a report holds, so that it fits into a payload whatever the file.
const (
	maxSteps      = 100
	maxParams     = 500
	maxParamBytes = 2000
	maxNameBytes  = 256 << 10
	maxDepth      = 16
)

// describe says what the pickled object is.
func describe(root value, f *findings) Info {
	info := Info{
		SklearnVersion: f.sklearnVersion,
		NumpyVersion:   f.numpyVersion(),
		Modules:        f.modules(),
		Globals:        f.names(),
		Reasons:        f.reasons,
	}
	model, ok := root.(*object)
	if !ok || !model.made {
		return info
	}
	info.RootClass, info.Framework = model.callee.String(), topLevel(model.callee.module)
	if isPipeline(model) {
		for _, step := range steps(model) {
			info.Steps = append(info.Steps, step.Step)
		}
	}
	if n, ok := find(model, "n_features_in_", maxDepth).(integer); ok && n > 0 {
		info.NFeaturesIn = int(n)
	}
	if names, _ := labels(find(model, "feature_names_in_", maxDepth), plainText); len(names) == info.NFeaturesIn {
		info.FeatureNamesIn = names
	}
	info.Classes, info.ClassesType = labels(find(model, "classes_", maxDepth), plainRepr)
	info.Params = params(model)
	return info
}

// state gives what an object has under a name; nil for nothing, or where it is not kept.
func (o *object) attribute(name text) value {
	if state, ok := o.state.(*dict); ok {
		return state.entry(name)
	}
	return nil
}

// step is a step of a pipeline, and what it consists of.
type step struct {
	Step
	estimator value
}

func isPipeline(model *object) bool {
	return model.callee.name == "Pipeline" && (model.callee.in("sklearn.pipeline") || model.callee.in("imblearn.pipeline"))
}

func steps(model *object) []step {
	var result []step
	items, ok := model.attribute("steps").(*list)
	if !ok || items.more || len(items.items) > maxSteps {
		return nil
	}
	for _, item := range items.items {
		pair, ok := item.(tuple)
		if !ok || len(pair.items) < 2 {
			return nil
		}
		name, ok := pair.items[0].(text)
		if !ok {
			return nil
		}
		made := step{Step: Step{Name: string(name)}, estimator: pair.items[1]}
		if estimator, ok := pair.items[1].(*object); ok && estimator.made {
			made.Class = estimator.callee.String()
		}
		result = append(result, made)
	}
	return result
}

// find gives a fitted attribute as Python would: the model's own, or what a property of its class asks of an estimator within.
func find(model *object, name text, depth int) value {
	if own := model.attribute(name); own != nil || depth == 0 {
		return own
	}
	if inner := asked(model, name); inner != nil {
		return find(inner, name, depth-1)
	}
	return nil
}

// asked is the estimator that the property of this name asks (sklearn/pipeline.py and _search.py, those of askedAt); nil where the class has
// no such property, or there is only a word such as passthrough.
func asked(model *object, name text) *object {
	if isPipeline(model) {
		inner := steps(model)
		if len(inner) == 0 {
			return nil
		}
		step := inner[0]
		if name == "classes_" {
			step = inner[len(inner)-1]
		}
		estimator, _ := step.estimator.(*object)
		return estimator
	}
	for _, place := range append([]text{"best_estimator_"}, askedAt[name][model.callee.name]...) {
		switch kept := model.attribute(place).(type) {
		case *object:
			return kept
		case *list: // the first of several, which may have names
			if len(kept.items) == 0 {
				return nil
			}
			item := kept.items[0]
			if pair, ok := item.(tuple); ok && len(pair.items) > 1 {
				item = pair.items[1]
			}
			estimator, _ := item.(*object)
			return estimator
		}
	}
	return nil
}

// askedAt is where scikit-learn's classes keep the estimator that they ask. Searches keep it as best_estimator_, those of other packages too.
var askedAt = map[text]map[string][]text{
	"n_features_in_": {
		"FeatureUnion": {"transformer_list"}, "FrozenEstimator": {"estimator"}, "SelectFromModel": {"estimator_"}, "StackingClassifier": {"estimators_"},
		"StackingRegressor": {"estimators_"}, "TransformedTargetRegressor": {"regressor_"}, "VotingClassifier": {"estimators_"}, "VotingRegressor": {"estimators_"},
	},
	"feature_names_in_": {"FeatureUnion": {"transformer_list"}, "FrozenEstimator": {"estimator"}},
	"classes_": {
		"FixedThresholdClassifier": {"estimator_", "estimator"}, "FrozenEstimator": {"estimator"}, "RFE": {"estimator_"}, "RFECV": {"estimator_"},
		"TunedThresholdClassifierCV": {"estimator_"},
	},
}

// labels writes the elements of an array or a list of plain values, all of them or none, and says numpy's type of them.
func labels(v value, write func(value) (string, bool)) (written []string, kind string) {
	items, kind := elements(v)
	total := 0
	for _, item := range items {
		label, ok := write(item)
		total += len(label)
		if !ok || total > maxNameBytes {
			return nil, ""
		}
		written = append(written, label)
	}
	if len(written) == 0 {
		return nil, ""
	}
	return written, kind
}

func plainRepr(v value) (string, bool) {
	written, ok := repr(v)
	return written, ok && isPlain(v)
}

func plainText(v value) (string, bool) {
	t, ok := v.(text)
	return string(t), ok
}

// params are what get_params(deep=True) of scikit-learn would return (sklearn/base.py and sklearn/utils/metaestimators.py).
func params(model *object) map[string]string {
	p := parameters{written: map[string]string{}}
	p.add(model, "", maxDepth)
	if len(p.written) == 0 {
		return nil
	}
	return p.written
}

type parameters struct {
	written map[string]string
	bytes   int
}

func (p *parameters) add(model *object, prefix string, depth int) {
	state, ok := model.state.(*dict)
	if !ok || depth == 0 {
		return
	}
	for _, e := range state.entries {
		name, ok := e.key.(text)
		if !ok || !isParam(model.callee, name) {
			continue
		}
		p.set(prefix+string(name), e.item)
		if inner, ok := e.item.(*object); ok {
			p.add(inner, prefix+string(name)+"__", depth-1)
		}
		if named[name] {
			p.addNamed(e.item, prefix, depth)
		}
	}
}

// named are the parameters that hold estimators under names, which are parameters as well.
var named = map[text]bool{"steps": true, "transformers": true, "transformer_list": true, "estimators": true}

func (p *parameters) addNamed(v value, prefix string, depth int) {
	items, ok := v.(*list)
	if !ok {
		return
	}
	for _, item := range items.items {
		pair, ok := item.(tuple)
		if !ok || len(pair.items) < 2 {
			return
		}
		name, ok := pair.items[0].(text)
		if !ok {
			return
		}
		p.set(prefix+string(name), pair.items[1])
		if inner, ok := pair.items[1].(*object); ok {
			p.add(inner, prefix+string(name)+"__", depth-1)
		}
	}
}

func (p *parameters) set(name string, v value) {
	written, ok := repr(v)
	if !ok || len(written) > maxParamBytes || len(p.written) >= maxParams || p.bytes+len(name)+len(written) > maxNameBytes {
		return
	}
	p.bytes += len(name) + len(written)
	p.written[name] = written
}

// isParam says whether an attribute is a parameter of the constructor: by the list of scikit-learn's, for other classes by convention.
func isParam(class *global, name text) bool {
	if name == "" || name[0] == '_' || name[len(name)-1] == '_' {
		return false
	}
	return class.params == nil || class.params[string(name)]
}
