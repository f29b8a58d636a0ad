// A yamux peer made of @chainsafe/libp2p-yamux over plain TCP: `node peer.mjs client|server`.
//
// A server prints {"port"} and takes one connection, a client is given the port as its second argument. Streams opened from the other side are
// echoed, end after end. Lines of JSON on stdin say what to do, each answered by one line on stdout; events are lines too.

import { createHash } from 'node:crypto'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { yamux } from '@chainsafe/libp2p-yamux'
import { defaultLogger } from '@libp2p/logger'

const [role, port] = process.argv.slice(2)
const print = (value) => process.stdout.write(JSON.stringify(value) + '\n')

function start (socket) {
  socket.setNoDelay(true)
  const muxer = yamux({ enableKeepAlive: false })({ logger: defaultLogger() }).createStreamMuxer({
    direction: role === 'client' ? 'outbound' : 'inbound',
    onIncomingStream: (stream) => {
      stream.sink(stream.source).then(
        () => print({ event: 'echoed', stream: Number(stream.id) }),
        (error) => print({ event: 'broken', stream: Number(stream.id), status: stream.status, error: error.name })
      )
    }
  })
  muxer.sink(socket).then(() => print({ event: 'sink ended' }), (error) => print({ event: 'sink failed', error: String(error) }))
  ;(async () => {
    for await (const chunk of muxer.source) {
      if (!socket.write(chunk.subarray())) await new Promise((resolve) => socket.once('drain', resolve))
    }
    socket.end()
  })()
  socket.on('error', () => {})
  createInterface({ input: process.stdin }).on('line', (line) => obey(muxer, JSON.parse(line)).then(print, (error) => print({ error: String(error) })))
  print({ event: 'connected' })
}

async function obey (muxer, { act, size = 0, piece = 65536 }) {
  switch (act) {
    case 'transfer': { // opens a stream, sends `size` bytes in pieces, ends, and reads the answer to its end
      const stream = await muxer.newStream()
      const sent = createHash('sha256')
      const received = createHash('sha256')
      let count = 0
      const sending = stream.sink((async function * () {
        for (let start = 0; start < size; start += piece) {
          const chunk = Buffer.alloc(Math.min(piece, size - start), start / piece % 251 | 0)
          sent.update(chunk)
          yield chunk
        }
      })())
      for await (const chunk of stream.source) {
        received.update(chunk.subarray())
        count += chunk.byteLength
      }
      await sending
      return { act, count, same: sent.digest('hex') === received.digest('hex') }
    }
    case 'reset': { // opens a stream, sends some bytes, and resets it
      const stream = await muxer.newStream()
      let abort
      stream.sink((async function * () {
        yield Buffer.from('before the reset')
        await new Promise((resolve) => { abort = resolve })
      })()).catch(() => {})
      await new Promise((resolve) => setImmediate(resolve))
      stream.abort(new Error('reset'))
      abort?.()
      return { act, stream: Number(stream.id) }
    }
    case 'open': { // opens streams that stay open, and says how many the other side accepted so far
      for (let number = 0; number < size; number++) await muxer.newStream()
      return { act, streams: muxer.streams.length }
    }
    case 'ping':
      return { act, milliseconds: await muxer.ping() }
    case 'close':
      await muxer.close()
      return { act }
  }
}

if (role === 'client') {
  const socket = connect(Number(port), '127.0.0.1', () => start(socket))
} else {
  const server = createServer((socket) => { server.close(); start(socket) })
  server.listen(0, '127.0.0.1', () => print({ port: server.address().port }))
}
