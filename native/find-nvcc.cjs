// Finds CUDA's compiler and its static runtime for binding.gyp and the build script: { nvcc, cudart }, both '' where either is missing
// or ZG_NO_CUDA is set. The kernels take minutes to compile for all devices, so a machine without one builds them only when ZG_CUDA
// is set. nvcc may be a wrapper script somewhere else than the toolkit, so it is asked where that is.
const { spawnSync } = require('node:child_process')
const { existsSync } = require('node:fs')
const { join } = require('node:path')

function find() {
  const none = { nvcc: '', cudart: '' }
  if (process.env.ZG_NO_CUDA || process.platform !== 'linux') return none
  if (!process.env.ZG_CUDA && !existsSync('/dev/nvidiactl')) return none
  const candidates = [
    ...[process.env.CUDA_PATH, process.env.CUDA_HOME].filter(Boolean).map(p => join(p, 'bin', 'nvcc')),
    'nvcc',
    '/usr/local/cuda/bin/nvcc'
  ]
  for (const nvcc of candidates) {
    const dry = spawnSync(nvcc, ['--dryrun', '-x', 'cu', '-c', '/dev/null', '-o', '/dev/null'], { encoding: 'utf8' })
    const top = /^#\$ TOP=(.*)$/m.exec(dry.stderr ?? '')?.[1]?.trim()
    if (top === undefined) continue
    for (const folder of ['lib64', 'lib', `targets/${process.arch === 'arm64' ? 'sbsa' : 'x86_64'}-linux/lib`]) {
      const cudart = join(top, folder, 'libcudart_static.a')
      if (existsSync(cudart)) return { nvcc, cudart }
    }
  }
  return none
}

module.exports = find()
