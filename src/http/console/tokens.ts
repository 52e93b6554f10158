// Tokens: those in image names, for the callers who requested them, and access tokens, for administrators. Both can be listed and revoked.

import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import { type AccessTokens, createAccessTokens } from '../../access/access-token.ts';
import type { TokenLedger } from '../../pull/tokens/ledger.ts';
import { ApiError } from '../../submit/errors.ts';
import { isAdmin, requireAdmin, requireCaller } from '../middleware/authentication.ts';
import { noteAction, shownToken } from '../middleware/request-log.ts';
import type { BodyLimits } from '../wave/json-body.ts';
import { listedScope } from '../wave/tokens-api.ts';
import { confirmed, withForm } from './forms.ts';
import type { ShowPage } from './layout.ts';
import { type Html, table, timeOf } from './parts.ts';

interface TokenPagesDeps {
  readonly ledger: Pick<TokenLedger, 'list' | 'find' | 'revoke'>;
  readonly records: Parameters<typeof createAccessTokens>[0]['records'];
  readonly show: ShowPage;
  readonly body: BodyLimits;
  readonly now: () => Date;
}

const PATH = '/console/tokens';
const MAX_SHOWN = 200;

export function createTokenPages({ ledger, records, show, body, now }: TokenPagesDeps): Hono {
  const accessTokens = createAccessTokens({ records, now });
  const app = new Hono();

  app.get(PATH, async (c: Context) => {
    requireCaller(c);
    const parts = [
      await listImageTokens(c, ledger, now()),
      isAdmin(c) && (await listAccessTokens(c, accessTokens, now())),
    ];
    const lead = 'Anyone who knows a token in an image name can pull that image with it, and nothing else.';
    return show(c, { title: 'Tokens', lead, body: html`${parts}` });
  });
  app.post(`${PATH}/revoke`, (c: Context) =>
    withForm(c, body, async fields => {
      requireCaller(c);
      const id = fields.get('id') ?? '';
      noteAction(c, 'token.revoke', { target: shownToken(id) });
      const scope = listedScope(c);
      const token = await ledger.find(id);
      // A token of another caller is reported as missing.
      const isOwn = token !== undefined && scope !== undefined && [undefined, token.caller].includes(scope.caller);
      if (!isOwn || !(await ledger.revoke(id))) throw new ApiError(404, 'there is no such token');
      return c.redirect(PATH, 303);
    }),
  );
  app.post(`${PATH}/access/revoke`, (c: Context) =>
    withForm(c, body, async fields => {
      const id = fields.get('id') ?? '';
      noteAction(c, 'access-token.revoke', { target: id });
      requireAdmin(c);
      if (!(await accessTokens.revoke(id))) throw new ApiError(404, 'there is no such access token');
      return c.redirect(PATH, 303);
    }),
  );
  return app;
}

function revoke(c: Context, action: string, id: string): Html {
  return confirmed(c, action, { what: 'Revoke', sure: 'Revoke for good', id });
}

async function listImageTokens(c: Context, ledger: Pick<TokenLedger, 'list'>, now: Date): Promise<Html> {
  const scope = listedScope(c);
  const { tokens, hasMore } = scope ? await ledger.list(scope, { limit: MAX_SHOWN }) : { tokens: [], hasMore: false };
  const rows = tokens.map(({ id, containerImage, workflowId, caller, createdAt, expiresAt }) => [
    html`<a class="digest" href="/view/containers/${id}">${shownToken(id)}</a>`,
    containerImage,
    workflowId ?? html`<span class="muted">none</span>`,
    caller || html`<span class="muted">no name</span>`,
    ...[timeOf(createdAt, now), timeOf(expiresAt, now), revoke(c, `${PATH}/revoke`, id)],
  ]);
  const columns = ['Token', { name: 'Image', isText: true }, 'Workflow', 'Caller', 'Made', 'Ends', ''];
  const more =
    hasMore &&
    html`<p class="muted small">These are the first ${MAX_SHOWN}: <code>veneer token list --images</code> lists all.</p>`;
  return html`<h2>Images</h2>${table('Tokens of images', columns, rows, 'You have no active tokens.')}${more}`;
}

/** Without those of our own builds, which only last as long as these. */
async function listAccessTokens(c: Context, accessTokens: AccessTokens, now: Date): Promise<Html> {
  const tokens = (await accessTokens.list()).filter(({ isBuild }) => !isBuild);
  const rows = tokens.map(({ id, name, permissions, createdAt, expiresAt }) => [
    html`<span class="digest">${id}</span>`,
    name || html`<span class="muted">none</span>`,
    permissions.map(({ allow, repositories }) => [allow.join(', '), ...repositories].join(' ')).join('; '),
    ...[timeOf(createdAt, now), timeOf(expiresAt, now), revoke(c, `${PATH}/access/revoke`, id)],
  ]);
  const columns = ['Id', 'Name', { name: 'May', isText: true }, 'Made', 'Ends', ''];
  const empty = html`None. <code>veneer token create --pull 'docker.io/**' --name ci</code> creates one.`;
  return html`<h2>Access tokens</h2>${table('Access tokens', columns, rows, empty)}`;
}
