// Checks a user name and password against a registry, without storing them.
import { Hono } from 'hono';
import { z } from 'zod';
import { atMost } from '../../oci/bounded.ts';
import { RegistryError } from '../../oci/errors.ts';
import { toSourceError } from '../../submit/errors.ts';
import { requesterOf, requireCaller } from '../middleware/authentication.ts';
import { dropUnset } from './config-schema.ts';
import { type BodyLimits, parseFields, withJson } from './json-body.ts';

interface Credentials {
  readonly username: string;
  readonly password: string;
}

interface ValidateCredsDeps {
  /** Throws RegistryError where the registry gives no clear answer. */
  readonly checkCredentials: (registry: string, credentials: Credentials, signal: AbortSignal) => Promise<boolean>;
  /** Throws TOOMANYREQUESTS: a registry counts wrong passwords against us. */
  readonly consume: (requester: ReturnType<typeof requesterOf>) => Promise<void>;
  readonly body: BodyLimits;
}

const text = z
  .string('is required, as a string')
  .min(1)
  .check(atMost(16 * 1024, 'characters'));

/** A password may be a key as JSON. */
export const credentialsSchema = z.preprocess(
  dropUnset,
  z.object({
    userName: text,
    password: text,
    registry: z.string().check(atMost(255, 'characters')).default('docker.io'),
  }),
);

const PATHS = ['/v1alpha2/validate-creds', '/validate-creds'];

export function createValidateCreds({ checkCredentials, consume, body: limits }: ValidateCredsDeps): Hono {
  const app = new Hono();
  app.on('POST', PATHS, c =>
    withJson(c, limits, async body => {
      requireCaller(c);
      const { userName, password, registry } = parseFields(credentialsSchema, body);
      await consume(requesterOf(c));
      // Some clients send the URL of the registry's API.
      const name = registry.replace(/^https?:\/\//i, '').replace(/\/.*$/s, '');
      try {
        return c.json(await checkCredentials(name, { username: userName, password }, c.req.raw.signal));
      } catch (error) {
        throw error instanceof RegistryError ? toSourceError(error, name) : error;
      }
    }),
  );
  return app;
}
