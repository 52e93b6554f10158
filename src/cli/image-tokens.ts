// Tokens in image names, issued by a running service: listed and revoked for `veneer token`.
import { z } from 'zod';
import { formatColumns, plainText } from './output.ts';
import { parseAnswer } from './service/builds.ts';
import { type Hints, refusalOf, type Service, sendRequest } from './service/service.ts';

const listSchema = z.object({
  tokens: z.array(
    z.object({
      token: z.string(),
      image: z.string(),
      workflowId: z.string().optional(),
      caller: z.string().optional(),
      creationTime: z.string(),
      expiration: z.string(),
    }),
  ),
  hasMore: z.boolean(),
});
const revokedSchema = z.object({ revoked: z.number() });

type ImageToken = z.output<typeof listSchema>['tokens'][number];

const HINT = 'set VENEER_TOKEN to the credentials that they were made with, or to a token made with --admin';
const HINTS: Hints = { 401: HINT, 403: HINT, 404: 'there is no such token, or it belongs to another caller' };

/** The tokens of the caller, or all of them for an administrator. Throws ServiceRefused. */
export async function listImageTokens(service: Service, workflow: string | undefined): Promise<readonly ImageToken[]> {
  const all: ImageToken[] = [];
  for (let after: string | undefined; ; ) {
    const query = new URLSearchParams({ limit: '1000', ...(workflow && { workflow }), ...(after && { after }) });
    const { tokens, hasMore } = await ask(service, listSchema, `/v1/tokens?${query}`);
    all.push(...tokens);
    after = tokens.at(-1)?.token;
    if (!hasMore || after === undefined) return all;
  }
}

/** Returns the number of revoked tokens. Throws ServiceRefused. */
export async function revokeWorkflow(service: Service, workflow: string): Promise<number> {
  const query = new URLSearchParams({ workflow });
  return (await ask(service, revokedSchema, `/v1/tokens?${query}`, 'DELETE')).revoked;
}

/** Throws ServiceRefused. */
export async function revokeImageToken(service: Service, id: string): Promise<void> {
  await ask(service, z.unknown(), `/container-token/${encodeURIComponent(id)}`, 'DELETE');
}

async function ask<T>(service: Service, schema: z.ZodType<T>, path: string, method = 'GET'): Promise<T> {
  const response = await sendRequest(service, path, { method });
  if (!response.ok) throw await refusalOf(response, HINTS);
  return parseAnswer(schema, await response.text(), service.url.host);
}

export function formatImageTokens(tokens: readonly ImageToken[]): readonly string[] {
  const rows = tokens.map(({ token, expiration, caller, workflowId, image }) =>
    [token, expiration, caller || '-', workflowId ?? '-', image].map(plainText),
  );
  return formatColumns(['TOKEN', 'EXPIRES', 'CALLER', 'WORKFLOW', 'IMAGE'], rows);
}
