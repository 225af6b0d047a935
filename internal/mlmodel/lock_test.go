package mlmodel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadLock_ReadsWhatThreeToolsWrite(t *testing.T) {
	want := map[string]string{"scikit-learn": "1.9.1", "numpy": "2.4.6"}
	for name, content := range map[string]string{
		"locks/requirements.txt": "# pinned by pip-compile\n--index-url https://index.test/simple\nScikit_Learn[tests] == 1.9.1 \\\n    --hash=sha256:00\n" +
			"numpy===2.4.6 ; python_version >= '3.11'  # why\npandas>=2\nscipy==1.17.*\nlocal @ file:///wheels/local.whl\n-r other.txt\n",
		"uv.lock": "version = 1\nrequires-python = \">=3.11\"\n[[package]]\nname = \"scikit-learn\"\nversion = \"1.9.1\"\n" +
			"dependencies = [{ name = \"numpy\" }]\n[[package]]\nname = \"numpy\"\nversion = \"2.4.6\"\n[[package]]\nname = \"project\"\nsource = { virtual = \".\" }\n",
		"poetry.lock": "[[package]]\nname = \"scikit-learn\"\nversion = \"1.9.1\"\noptional = false\n[[package]]\nname = \"numpy\"\nversion = \"2.4.6\"\n" +
			"[metadata]\nlock-version = \"2.1\"\n",
	} {
		versions, err := ReadLock(name, []byte(content))
		require.NoError(t, err, name)
		require.Equal(t, want, versions, name)
	}
}

func TestReadLock_LeavesOutWhatHasTwoVersions(t *testing.T) {
	versions, err := ReadLock("requirements.txt", []byte(
		"numpy==1.26.4 ; python_version < '3.12'\nnumpy==2.4.6 ; python_version >= '3.12'\nnumpy==2.4.6\nscipy==1.17.1\nscipy==1.17.1\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"scipy": "1.17.1"}, versions)
}

func TestReadLock_NamesAFileThatIsNone(t *testing.T) {
	_, err := ReadLock("locks/uv.lock", []byte("[[package]\n"))
	require.ErrorIs(t, err, ErrSpec)
	require.ErrorContains(t, err, "environment_file locks/uv.lock is no uv.lock")
}

func TestFiles_TakeFromTheLockWhatTheModelNeeds(t *testing.T) {
	spec := bareSpec()
	spec.Info.SklearnVersion = "1.9.1"
	spec.MLflowVersion = "3.17.2"
	spec.Environment = map[string]string{"numpy": "2.4.1"}
	spec.Locked = map[string]string{"numpy": "2.4.6", "scipy": "1.17.1", "scikit-learn": "1.9.1", "mlflow": "3.16.0", "torch": "2.3.0"}
	_, content := contents(t, spec)
	require.Equal(t, "mlflow==3.16.0\nnumpy==2.4.1\npandas\nscikit-learn==1.9.1\nscipy==1.17.1", string(content["requirements.txt"]))

	spec.Locked["scikit-learn"] = "1.4.2"
	require.ErrorContains(t, spec.Check(), "gives scikit-learn 1.4.2, but model.pkl was saved with 1.9.1")
}

func TestFiles_BoundWhatIsKnownInPart(t *testing.T) {
	spec := bareSpec()
	spec.Info.NumpyVersion = "<2"
	_, content := contents(t, spec)
	require.Contains(t, string(content["requirements.txt"]), "numpy<2\n")
	require.Contains(t, Unknown(spec), "numpy", "a range is no pin")

	spec.Environment = map[string]string{"numpy": "2.4.6"}
	require.ErrorContains(t, spec.Check(), "gives numpy 2.4.6, but the model file was saved with numpy <2")
}

func TestFiles_AskForAnMLflowThatCanBeInstalled(t *testing.T) {
	for server, want := range map[string]string{"2.22.4": "mlflow>=2.22.4", "3.9.0": "mlflow>=3.9.0", "3.16.0": "mlflow==3.16.0", "3.17.2": "mlflow==3.17.2"} {
		spec := joblibSpec()
		spec.MLflowVersion = server
		_, content := contents(t, spec)
		require.Contains(t, string(content["requirements.txt"]), want+"\n", "pandas 3 installs beside MLflow 3.16 and newer alone")

		spec.Environment["pandas"] = "2.3.3"
		_, content = contents(t, spec)
		require.Contains(t, string(content["requirements.txt"]), "mlflow=="+server+"\n")
	}
}
