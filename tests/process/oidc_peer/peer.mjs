// A strict OpenID Connect provider on loopback. One person signs in there, who is asked nothing: the login of the interaction is answered at once.
// Says its port as the first line of its output. Lines of its input change the person: {"sub": ..., "email": ..., "email_verified": ...}.
import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { Provider } from 'oidc-provider'

const [, , redirectUri, secret] = process.argv
let person = { sub: 'ada-1', email: 'ada@example.com', email_verified: true, name: 'Ada' }

const server = createServer((request, response) => handle(request, response))
server.listen(0, '127.0.0.1')
await new Promise((resolve) => server.once('listening', resolve))
const port = server.address().port

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: 'codezero hub',
      client_secret: secret,
      redirect_uris: [redirectUri],
      response_types: ['code'],
      grant_types: ['authorization_code'],
      token_endpoint_auth_method: 'client_secret_basic',
    },
  ],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  cookies: { keys: ['only for tests'] },
  features: { devInteractions: { enabled: false } },
  findAccount: (_context, id) => ({ accountId: id, claims: () => ({ ...person, sub: id }) }),
  interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
  pkce: { required: () => true },
})

async function handle(request, response) {
  if (!request.url.startsWith('/interaction/')) return provider.callback()(request, response)
  const details = await provider.interactionDetails(request, response)
  const grant = new provider.Grant({ accountId: person.sub, clientId: details.params.client_id })
  grant.addOIDCScope('openid email profile')
  const result = { login: { accountId: person.sub }, consent: { grantId: await grant.save() } }
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false })
}

createInterface({ input: process.stdin }).on('line', (line) => {
  person = { ...person, ...JSON.parse(line) }
  console.log('changed')
}).on('close', () => process.exit(0))
console.log(port)
