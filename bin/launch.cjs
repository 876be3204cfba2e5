// biome-ignore-all lint/style/useNodejsImportProtocol: Node before 14.18 does not know it
'use strict'
// Starts a tool from its built files. Syntax that any Node parses, so that an old one gets a clear line, not a SyntaxError.
var fs = require('fs')
var path = require('path')
var url = require('url')

module.exports = function launch(tool) {
  var parts = process.versions.node.split('.').map(Number)
  if (parts[0] < 20 || (parts[0] === 20 && parts[1] < 19)) {
    return refuse(tool, 'Node ' + process.versions.node + ' is too old', 'install Node 20.19 or newer')
  }
  var cli = path.join(__dirname, '..', 'dist', 'cmd', tool, 'cli.js')
  if (!fs.existsSync(cli)) return refuse(tool, 'not built yet', "run 'npm run build'")
  // Files, syncs, the index and hashing share these threads: three that wait for the disk must not leave one for the hashing.
  if (tool === 'zg-store' && !process.env.UV_THREADPOOL_SIZE) process.env.UV_THREADPOOL_SIZE = '8'
  // In a file of its own: before Node 13 `import()` is a syntax error.
  require('./load.cjs')(url.pathToFileURL(cli).href)
}

function refuse(tool, why, hint) {
  process.stderr.write(tool + ': ' + why + '\nhint: ' + hint + '\n')
  process.exitCode = 78
}
