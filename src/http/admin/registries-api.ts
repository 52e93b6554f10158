// Registry credentials stored by a caller, used for that caller's own requests only. They are write-only.

import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { isBuild, MissingRight, subjectOf } from '../../access/access.ts';
import type { RegistryCredentials } from '../../access/registry-credentials.ts';
import { ApiError } from '../../submit/errors.ts';
import { callerOf, requireCaller } from '../middleware/authentication.ts';
import { noteAction } from '../middleware/request-log.ts';
import { type BodyLimits, parseFields, withJson } from '../wave/json-body.ts';

const MAX_NAME = 255;
const MAX_PASSWORD = 8192;

const text = (max: number) =>
  z.string('is required, as a string').min(1, 'must not be empty').max(max, `has more than ${max} characters`);

export const registryCredentialsSchema = z.object({
  userName: text(MAX_NAME).regex(/^[ -9;-~\u00a0-\uffff]+$/, 'must have no colon and no control character'),
  password: text(MAX_PASSWORD).regex(/^[ -~\u00a0-\uffff]+$/, 'must have no control character'),
});

export function createRegistriesApi({
  credentials,
  nameRegistry,
  body: limits,
}: {
  /** Undefined where callers have no names. */
  readonly credentials: RegistryCredentials | undefined;
  /** The canonical name of a registry. Throws RegistryError for anything but an upstream. */
  readonly nameRegistry: (registry: string) => string;
  readonly body: BodyLimits;
}): Hono {
  const app = new Hono();

  function ownerOf(c: Context): { readonly store: RegistryCredentials; readonly subject: string } {
    if (!credentials)
      throw new MissingRight('DENIED', 'credentials are stored for callers with names: set "access" in veneer.yaml');
    requireCaller(c);
    const caller = callerOf(c);
    const subject = subjectOf(caller);
    if (subject === '' || isBuild(caller))
      throw new MissingRight('UNAUTHORIZED', 'credentials are stored for users and access tokens: log in as one');
    return { store: credentials, subject };
  }

  app.get('/v1/registries', async c => {
    const { store, subject } = ownerOf(c);
    return c.json({ registries: await store.list(subject) });
  });

  app.put('/v1/registries/:registry', async c => {
    noteAction(c, 'credentials.store');
    const { store, subject } = ownerOf(c);
    const registry = nameRegistry(c.req.param('registry'));
    const { userName, password } = await withJson(c, limits, async body =>
      parseFields(registryCredentialsSchema, body),
    );
    await store.set(subject, registry, { username: userName, password });
    return c.json({ registry, userName });
  });

  app.delete('/v1/registries/:registry', async c => {
    noteAction(c, 'credentials.delete');
    const { store, subject } = ownerOf(c);
    const registry = nameRegistry(c.req.param('registry'));
    if (await store.delete(subject, registry)) return c.body(null, 204);
    throw new ApiError(404, `you have stored no credentials of ${registry}`);
  });
  return app;
}
