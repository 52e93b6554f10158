// The tokens of the augment API: listed for whoever asked for them, and revoked together, such as all of a workflow.
import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { subjectOf } from '../../access/access.ts';
import type { TokenLedger } from '../../pull/tokens/ledger.ts';
import { type TokenRecord, tokenIdSchema } from '../../pull/tokens/record.ts';
import { callerOf, isAdmin, requireCaller } from '../middleware/authentication.ts';
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

/** A caller without a name has none to list: whoever has a token has its id. Who looks after Veneer sees all. */
export function createTokensApi(ledger: Pick<TokenLedger, 'list' | 'revoke'>): Hono {
  const app = new Hono();

  app.get('/v1/tokens', async c => {
    requireCaller(c);
    const { workflow, ...page } = parseFields(pageSchema, c.req.query());
    const { tokens, hasMore } = await ledger.list({ ...page, isWanted: wanted(c, workflow) });
    return c.json({ tokens: tokens.map(describe), hasMore });
  });

  app.delete('/v1/tokens', async c => {
    requireCaller(c);
    const { workflow } = parseFields(wantedSchema, c.req.query());
    let revoked = 0;
    for (;;) {
      const { tokens } = await ledger.list({ limit: MAX_PAGE, isWanted: wanted(c, workflow) });
      if (tokens.length === 0) return c.json({ revoked });
      for (const { id } of tokens) if (await ledger.revoke(id)) revoked += 1;
    }
  });
  return app;
}

function wanted(c: Context, workflow: string | undefined): (record: TokenRecord) => boolean {
  return record => isWantedToken(c, record) && (workflow === undefined || record.request.workflowId === workflow);
}

/** Whether the list of the caller has it. */
export function isWantedToken(c: Context, { caller = '' }: TokenRecord): boolean {
  const subject = subjectOf(callerOf(c));
  return isAdmin(c) || (subject !== '' && caller === subject);
}

function describe({ id, containerImage, request, caller, createdAt, expiresAt }: TokenRecord) {
  const { workflowId } = request;
  return { token: id, image: containerImage, workflowId, caller, creationTime: createdAt, expiration: expiresAt };
}
