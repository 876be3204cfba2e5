'use strict'
module.exports = href => import(href)
