// Every route, in the order in which it is looked for.
import type { Context, Hono } from 'hono';
import type { Logger } from 'pino';
import type { Access } from '../access/access.ts';
import type { Config } from '../config/schema.ts';
import type { Collector } from '../hosted/collect.ts';
import type { Hosted } from '../hosted/hosted.ts';
import { createAdmission } from '../http/admission.ts';
import { createAugmentApi } from '../http/augment-api.ts';
import { createAuthentication, requireRight } from '../http/authentication.ts';
import { createBodySender } from '../http/body-sender.ts';
import { clientAddress } from '../http/client-address.ts';
import { createCollectApi } from '../http/collect-api.ts';
import { createErrorHandler, notFound } from '../http/errors.ts';
import { createHealth } from '../http/health.ts';
import { createInspectApi } from '../http/inspect.ts';
import { createPush } from '../http/push.ts';
import { createRegistry } from '../http/registry.ts';
import type { RegistryEvents } from '../http/registry-events.ts';
import { createRequestLog } from '../http/request-log.ts';
import { createSourceRights } from '../http/source-rights.ts';
import { createTokenEndpoint } from '../http/token-endpoint.ts';
import { originName } from '../proxy/origin.ts';
import type { TokenLedger } from '../tokens/ledger.ts';
import type { Pulling } from './pulling.ts';

export interface RoutesDeps extends Pick<Pulling, 'origins' | 'proxy' | 'prepare' | 'inspect'> {
  readonly config: Config;
  readonly log: Logger;
  readonly version: string;
  readonly commit?: string | undefined;
  readonly now: () => Date;
  readonly access: Access;
  readonly hosted: Hosted;
  readonly collector: Collector;
  readonly ledger: TokenLedger;
  readonly registryEvents: RegistryEvents;
  readonly checkReady: () => Promise<void>;
}

export function createRoutes(app: Hono, deps: RoutesDeps): void {
  const { config, log, version, commit = 'unknown', access, origins } = deps;
  app.use('/v2/:name{.+}/blobs/:digest', createBodySender(log));
  app.use(createRequestLog(log));
  app.onError(createErrorHandler(log));
  app.notFound(notFound);
  app.route('/', createHealth({ version, commit, log, checkReady: deps.checkReady }));
  if (access.bearer) {
    const normalizeName = (name: string) => (name.startsWith('wt/') ? name : originName(origins.locateName(name)));
    app.route('/', createTokenEndpoint({ bearer: access.bearer, normalizeName, addressOf: clientAddress }));
  }
  const callers = { access, publicUrl: config.publicUrl?.href, addressOf: clientAddress };
  for (const path of ['/v2', '/v2/*', '/v1/hosted/*']) app.use(path, createAuthentication(callers));
  for (const path of ['/v1alpha1/*', '/v1alpha2/*', '/container-token', '/container-token/*']) {
    app.use(path, createAuthentication({ ...callers, toleratesBearers: true }));
  }
  addRegistry(app, deps);
  addAugmentApi(app, deps);
  addCollectApi(app, deps);
}

function addRegistry(app: Hono, { origins, ledger, proxy, hosted, registryEvents }: RoutesDeps): void {
  const admission = createAdmission({ origins, ledger });
  app.route('/', createRegistry({ admission, proxy, events: registryEvents }));
  app.route('/', createPush({ admission, hosted }));
}

function addCollectApi(app: Hono, { config, log, collector }: RoutesDeps): void {
  // Of every repository below: no repository has such a name, so that a right to a few is no right to this.
  const everywhere = config.hosted.prefixes.map(prefix => `${prefix}_/_`);
  if (everywhere.length === 0) return;
  const authorise = (c: Context) => {
    for (const repository of everywhere) requireRight(c, 'delete', repository);
  };
  app.route('/', createCollectApi({ collector, authorise, log }));
}

function addAugmentApi(app: Hono, { config, now, origins, ledger, prepare, inspect }: RoutesDeps): void {
  const requireSources = createSourceRights(origins);
  const { requestBodyBytes, layerLocation, containerIncludes } = config.limits;
  const options = {
    publicUrl: config.publicUrl?.href,
    attestations: config.attestations,
    ttlMs: config.tokens.ttlMs,
    maxBodyBytes: requestBodyBytes,
    limits: { maxLocationCharacters: layerLocation, maxIncludes: containerIncludes },
  };
  app.route('/', createAugmentApi({ prepare, ledger, now, requireSources, options }));
  app.route('/', createInspectApi({ inspect, requireSources, maxBodyBytes: requestBodyBytes }));
}
