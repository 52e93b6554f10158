// The tokens of the augment API: listed for their requester, and revoked together, such as all of a workflow.

import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { subjectOf } from '../../access/access.ts';
import type { ListedToken, TokenLedger, TokenScope } from '../../pull/tokens/ledger.ts';
import { tokenIdSchema } from '../../pull/tokens/record.ts';
import { callerOf, isAdmin, requireCaller } from '../middleware/authentication.ts';
import { noteAction } from '../middleware/request-log.ts';
import { parseFields } from './json-body.ts';

const MAX_PAGE = 1000;

const workflow = z.string().min(1).max(255);
const pageSchema = z.object({
  workflow: workflow.optional(),
  after: tokenIdSchema.optional(),
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).default(100),
});
const wantedSchema = z.object({ workflow });

export const tokenListSchema = z.object({
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
  /** Whether there are more, after the last of these. */
  hasMore: z.boolean(),
});

/** Only callers with a name can list their tokens; administrators see all. */
export function createTokensApi(ledger: Pick<TokenLedger, 'list' | 'revokeAll'>): Hono {
  const app = new Hono();

  app.get('/v1/tokens', async c => {
    requireCaller(c);
    const { workflow, ...page } = parseFields(pageSchema, c.req.query());
    const scope = listedScope(c);
    if (!scope) return c.json({ tokens: [], hasMore: false });
    const { tokens, hasMore } = await ledger.list({ ...scope, workflow }, page);
    return c.json({ tokens: tokens.map(describe), hasMore });
  });

  app.delete('/v1/tokens', async c => {
    requireCaller(c);
    const { workflow } = parseFields(wantedSchema, c.req.query());
    const scope = listedScope(c);
    noteAction(c, 'token.revoke', { target: `workflow ${workflow}` });
    return c.json({ revoked: scope ? await ledger.revokeAll({ ...scope, workflow }) : 0 });
  });
  return app;
}

/** What the caller may list: all, or its own. Undefined for a caller without a name. */
export function listedScope(c: Context): TokenScope | undefined {
  if (isAdmin(c)) return {};
  const caller = subjectOf(callerOf(c));
  return caller === '' ? undefined : { caller };
}

function describe({ id, containerImage, workflowId, caller, createdAt, expiresAt }: ListedToken) {
  return { token: id, image: containerImage, workflowId, caller, creationTime: createdAt, expiration: expiresAt };
}
