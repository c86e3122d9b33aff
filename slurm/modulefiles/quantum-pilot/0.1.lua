-- For Lmod. Copy it to a folder of MODULEPATH, as quantum-pilot/0.1.lua.
-- `root` is the virtual environment that quantum-pilot is installed in; docs/administrators.md shows how.
local root = "/opt/quantum-pilot/0.1"

whatis("quantum-pilot 0.1: pilot jobs for quantum-HPC")
conflict("quantum-pilot")
prepend_path("PATH", pathJoin(root, "bin"))
setenv("QUANTUM_PILOT_ROOT", root)

-- Profiles of this site, if they are not in /etc/quantum-pilot/sites.d:
-- setenv("QUANTUM_PILOT_SITES", pathJoin(root, "sites"))
-- Where sessions are kept that have no folder of their own; compute nodes must see it. Default: ~/.quantum-pilot/sessions
-- setenv("QUANTUM_PILOT_SESSIONS", pathJoin(os.getenv("SCRATCH"), "quantum-pilot"))
